"""The lines of docs/checkpoints.md that load a checkpoint without this project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from tests.train.small_run import Trainer, run_file

DOCS = Path(__file__).resolve().parents[2] / "docs" / "checkpoints.md"


def test_the_documented_way_gives_the_same_tensors(tmp_path: Path) -> None:
    run = run_file(str(tmp_path / "store"))
    trainer = Trainer(run, shard=False)
    trainer.train(2)
    trainer.save()
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"address": str(tmp_path / "store" / run.checkpoint(2).address)}
    exec(code, names)
    expected = trainer.model.state_dict()
    assert names["parameters"].keys() == expected.keys()
    assert all(torch.equal(names["parameters"][name], tensor) for name, tensor in expected.items())
    assert names["state"]["step"] == 2
