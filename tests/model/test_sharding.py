"""The model under FSDP2 on gloo, on 1 and 2 ranks, equals the model alone; and under torch.compile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from olmo_core.model.initialization import initialize
from olmo_core.model.transformer import Transformer
from tests.model.samples import next_tokens, ours, small, tokens

ROOT = Path(__file__).resolve().parents[2]


def sharded(out: Path, ranks: int, tied: bool, precision: str) -> dict[str, torch.Tensor]:
    """What `sharded_step` found."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += ["-m", "tests.model.sharded_step", str(out), "tied" if tied else "untied", precision]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out, weights_only=True)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "tied", "precision", "tolerance"),
    [(1, True, "bfloat16", 0.04), (2, False, "bfloat16", 0.04), (2, True, "float32", 1e-5)],
)
def test_sharded_step_equals_one_alone(
    tmp_path: Path, ranks: int, tied: bool, precision: str, tolerance: float
) -> None:
    found = sharded(tmp_path / "out.pt", ranks, tied, precision)
    model = Transformer(small(tied=tied, embedding_rows=1500, norm="rms", kv_heads=2))
    initialize(model, 3)
    batch = tokens(4, 32)
    losses = model(batch, labels_BT=next_tokens(batch), z_loss=1e-4)
    (losses.total / (4 * 31)).backward()
    assert float(found["loss"]) == pytest.approx(float(losses.total.detach()), rel=tolerance / 10)
    for name, parameter in model.named_parameters():
        assert torch.equal(found["parameter." + name], parameter), name
        assert parameter.grad is not None
        difference = (found["gradient." + name] - parameter.grad).norm() / parameter.grad.norm()
        assert difference < tolerance, name


@pytest.mark.slow
def test_compiled_blocks_give_the_same() -> None:
    model, compiled = ours(small(layers=2)), ours(small(layers=2))
    for block in compiled.blocks:
        block.compile(fullgraph=True, backend="aot_eager")
    ids = tokens(2, 48)
    for one in (model, compiled):
        one(ids, labels_BT=next_tokens(ids)).total.backward()
    with torch.no_grad():
        assert torch.allclose(model(ids), compiled(ids), atol=1e-5)
    for name, parameter in model.named_parameters():
        other = compiled.get_parameter(name).grad
        assert parameter.grad is not None and other is not None
        assert (other - parameter.grad).norm() < 1e-5 * parameter.grad.norm(), name
