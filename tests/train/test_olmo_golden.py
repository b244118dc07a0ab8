"""Chunks, targets, order and repetition beside OLMo's own code (golden file by tests/oracles/olmo_golden.py)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.train.chunks import OpenFile
from olmo_core.train.dataset import TokenDataset
from olmo_core.train.loader import NO_TARGET, assemble
from olmo_core.train.order import Batches, Order
from olmo_core.train.recipe import DataRecipe, RepetitionRecipe
from olmo_core.train.repetition import repetitive
from tests.oracles.olmo_settings import CHUNK, END_OF_TEXT, ORDERS, REPETITIONS, SHOWN, instances, token_files
from tests.train.token_artifacts import written

GOLDEN = json.loads((Path(__file__).parent / "golden" / "olmo_data.json").read_text())


@pytest.mark.parametrize("number", range(len(ORDERS)), ids=["-".join(str(v) for v in o.values()) for o in ORDERS])
def test_every_rank_gets_the_batches_that_olmo_gives_it(number: int) -> None:
    setting, expected = ORDERS[number], GOLDEN["orders"][number]
    chunks, batch, world, epoch = (setting[name] for name in ("chunks", "batch", "world", "epoch"))
    batches = Batches(Order("olmo", seed=setting["seed"], chunks=chunks), batch)
    assert batches.per_epoch <= expected["batches"]  # OLMo's workers may give one more, of leftovers
    first = epoch * batches.per_epoch
    whole = [batches.instances(first + i) for i in range(batches.per_epoch)]
    ranks = [[one[rank::world].tolist() for one in whole] for rank in range(world)]
    assert [some[:SHOWN] for some in ranks] == expected["first"]
    assert hashlib.sha256(json.dumps(ranks).encode()).hexdigest() == expected["sha256"]


def test_chunks_targets_and_documents_are_those_of_olmo(tmp_path: Path) -> None:
    files = []
    for number, (ids, mask) in enumerate(token_files()):
        path, mask_path = tmp_path / f"{number}.npy", tmp_path / f"{number}.mask"
        files.append(
            OpenFile(
                name=path.name, path=str(path), sha256=written(path, ids), dtype="uint16", tokens=len(ids),
                label_mask=str(mask_path), label_mask_sha256=written(mask_path, mask),
            )
        )  # fmt: skip
    dataset = TokenDataset(files, sequence_length=CHUNK, vocabulary=1000, end_of_text_id=END_OF_TEXT)
    recipe = DataRecipe(sequence_length=CHUNK, mask_documents=True, repetition=RepetitionRecipe(times=12))
    batch = assemble(dataset, recipe, np.arange(dataset.chunks))
    expected: dict[str, Any] = GOLDEN["chunks"]
    assert batch.tokens_BT.tolist() == expected["input_ids"]
    assert batch.labels_BT[:, :-1].tolist() == expected["labels"]
    assert set(batch.labels_BT[:, -1].tolist()) == {NO_TARGET}
    assert (~batch.masked).tolist() == expected["instance_mask"] and batch.masked.any()
    assert batch.documents_BT is not None
    assert [np.bincount(row).tolist() for row in batch.documents_BT.numpy()] == expected["document_lengths"]


@pytest.mark.parametrize("number", range(len(REPETITIONS)))
def test_the_instances_masked_are_those_of_olmo(number: int) -> None:
    shortest, longest, times = REPETITIONS[number]
    verdicts = repetitive(instances(), RepetitionRecipe(shortest_period=shortest, longest_period=longest, times=times))
    assert "".join(map(str, verdicts.astype(int).tolist())) == GOLDEN["repetitions"][number]
    assert 0 < verdicts.sum() < len(verdicts)
