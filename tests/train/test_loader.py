"""Batches: targets, masks, documents; the same for every number of ranks, in every order of asking, and read ahead."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from olmo_core.errors import InputError, RecipeError
from olmo_core.train.dataset import TokenDataset
from olmo_core.train.loader import NO_TARGET, Batch, Loader, _ahead, evaluation_batches
from olmo_core.train.recipe import DataRecipe, RepetitionRecipe
from tests.train.token_artifacts import LENGTH, dataset_of

RECIPE = DataRecipe(sequence_length=LENGTH)


@pytest.fixture
def dataset(tmp_path: Path) -> TokenDataset:
    """Three files of 5, 0 and 8 chunks, with tails."""
    random = np.random.default_rng(0)
    return dataset_of(tmp_path, [random.integers(0, 999, n).astype("uint16") for n in (5 * LENGTH + 3, 7, 8 * LENGTH)])


def test_targets_are_the_next_tokens(dataset: TokenDataset) -> None:
    batch = Loader(dataset, RECIPE, batch=4).batch(0)
    assert batch.tokens_BT.dtype == batch.labels_BT.dtype == torch.int64
    assert batch.documents_BT is None and batch.tokens_BT.shape == (4, LENGTH)
    for row, chunk in enumerate(batch.instances.tolist()):
        expected = dataset.chunk(chunk).tolist()
        assert batch.tokens_BT[row].tolist() == expected
        assert batch.labels_BT[row].tolist() == [*expected[1:], NO_TARGET]


def test_a_label_mask_says_which_tokens_are_targets(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = [np.arange(2 * LENGTH + 1, dtype="uint32"), np.arange(100, 100 + LENGTH, dtype="uint32")]
    masks = [random.random(len(array)) < 0.5 for array in arrays]
    batch = Loader(dataset_of(tmp_path, arrays, masks=masks), RECIPE, batch=3).batch(0)
    wanted = {
        token: bool(kept)
        for array, mask in zip(arrays, masks, strict=True)
        for token, kept in zip(array.tolist(), mask, strict=True)
    }
    for tokens, labels in zip(batch.tokens_BT.tolist(), batch.labels_BT.tolist(), strict=True):
        assert labels == [*(token if wanted[token] else NO_TARGET for token in tokens[1:]), NO_TARGET]


def test_documents_are_numbered_and_end_with_their_end_of_text(tmp_path: Path) -> None:
    array = np.array([5, 999, 6, 7, 999, 999, 8, 9, 1, 2, 3, 4, 5, 6, 7, 999], "uint16")
    recipe = DataRecipe(sequence_length=LENGTH, mask_documents=True)
    batch = Loader(dataset_of(tmp_path, [array]), recipe, batch=2).batch(0)
    assert batch.documents_BT is not None and batch.documents_BT.dtype == torch.int32
    rows = batch.documents_BT[torch.from_numpy(np.argsort(batch.instances))].tolist()
    assert rows == [[0, 0, 1, 1, 1, 2, 3, 3], [0] * 8]


def test_repetitive_instances_keep_their_slot_and_have_no_target(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    array = random.integers(0, 999, 6 * LENGTH).astype("uint16")
    array[2 * LENGTH : 3 * LENGTH] = [1, 2, 3, 3, 3, 3, 3, 4]
    dataset = dataset_of(tmp_path, [array])
    recipe = DataRecipe(sequence_length=LENGTH, repetition=RepetitionRecipe(times=5, longest_period=2))
    plain, masked = (Loader(dataset, r, batch=6).batch(0) for r in (RECIPE, recipe))
    assert masked.instances.tolist() == plain.instances.tolist()
    assert torch.equal(masked.tokens_BT, plain.tokens_BT)
    at = masked.instances.tolist().index(2)
    assert masked.masked.tolist() == [row == at for row in range(6)]
    assert masked.labels_BT[at].tolist() == [NO_TARGET] * LENGTH
    others = torch.arange(6) != at
    assert torch.equal(masked.labels_BT[others], plain.labels_BT[others])


@pytest.mark.parametrize("order", ["permutation", "olmo"])
@pytest.mark.parametrize("world", [1, 2, 3, 6])
def test_ranks_share_each_batch(dataset: TokenDataset, order: str, world: int) -> None:
    recipe = DataRecipe(sequence_length=LENGTH, order=order)  # type: ignore[arg-type]
    whole = Loader(dataset, recipe, batch=6)
    ranks = [Loader(dataset, recipe, batch=6, rank=rank, world=world) for rank in range(world)]
    for index in (7, 0, 1, 2, 7):  # two batches an epoch; in any order of asking
        expected = whole.instances(index)
        for rank, loader in enumerate(ranks):
            batch = loader.batch(index)
            assert batch.index == index
            assert batch.instances.tolist() == expected[rank::world].tolist()
            assert torch.equal(batch.tokens_BT, whole.batch(index).tokens_BT[rank::world])
    assert whole.batches.per_epoch == 2 and whole.batches.dropped_chunks == 1


def test_reading_ahead_gives_the_same_batches_without_those_left_out(dataset: TokenDataset) -> None:
    loader = Loader(dataset, RECIPE, batch=4)
    ahead = loader.prefetch(2, skipped=[(3, 5), (7, 8)])
    got = [next(ahead) for _ in range(5)]
    assert [b.index for b in got] == [2, 5, 6, 8, 9]
    for batch in got:
        assert torch.equal(batch.tokens_BT, loader.batch(batch.index).tokens_BT)
    assert next(loader.prefetch(3, skipped=[(3, 5)])).index == 5


def test_an_error_ahead_is_raised_and_the_thread_ends(dataset: TokenDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = Loader(dataset, RECIPE, batch=4)
    batch = loader.batch

    def failing(index: int) -> Batch:
        if index == 3:
            raise InputError("the third")
        return batch(index)

    monkeypatch.setattr(loader, "batch", failing)
    ahead = loader.prefetch(1)
    assert [next(ahead).index, next(ahead).index] == [1, 2]
    with pytest.raises(InputError, match="the third"):
        next(ahead)
    before = set(threading.enumerate())  # another test's may not have ended yet
    endless = Loader(dataset, RECIPE, batch=4).prefetch(0)
    next(endless)
    del endless
    deadline = time.monotonic() + 120
    while any(t.name == "loader" for t in set(threading.enumerate()) - before):
        assert time.monotonic() < deadline, "the thread goes on"
        threading.Event().wait(0.05)


def test_the_thread_has_ended_when_the_iterator_is_closed() -> None:
    """One that is still at work at the interpreter's end ends the process by SIGABRT: a run that was done counted as failed."""
    loading, go_on = threading.Event(), threading.Event()

    def load(number: int) -> int:
        if number == 1:
            loading.set()
            go_on.wait(120)
        return number

    before = set(threading.enumerate())
    ahead = _ahead(load, 0, 4)  # type: ignore[arg-type]
    next(ahead)
    assert loading.wait(120)
    (thread,) = set(threading.enumerate()) - before
    threading.Timer(0.5, go_on.set).start()  # amid a batch when the iterator is closed
    ahead.close()  # type: ignore[attr-defined]
    assert go_on.is_set() and not thread.is_alive()


def test_a_process_ends_well_while_batches_are_read_ahead() -> None:
    """Closed, and left open: neither an abort nor a wait without end."""
    for last in ("ahead.close()", "pass"):
        code = f"""
import torch
from olmo_core.train.loader import _ahead
def load(number):
    made = torch.arange(600) + number
    made[made > 400] = -100
    return made
ahead = _ahead(load, 0, 100_000)
for _ in range(50):
    next(ahead)
{last}
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr


def test_what_makes_no_batch_is_refused(dataset: TokenDataset) -> None:
    with pytest.raises(
        RecipeError, match="batch: 6 instances do not divide over 4 ranks; give a multiple of 4, e.g. 4"
    ):
        Loader(dataset, RECIPE, batch=6, world=4)
    with pytest.raises(InputError, match="batch: 14 instances, but the tokens make only 13 whole chunks"):
        Loader(dataset, RECIPE, batch=14)
    with pytest.raises(RecipeError, match=r"sequence_length: 16, but the tokens were opened in chunks of 8"):
        Loader(dataset, DataRecipe(sequence_length=16), batch=4)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_held_out_batches_are_in_order_and_ragged_rows_have_no_target(dataset: TokenDataset, world: int) -> None:
    seen: list[int] = []
    for parts in zip(
        *(evaluation_batches(dataset, RECIPE, batch=8, rank=r, world=world) for r in range(world)), strict=True
    ):
        rows = [
            (n, tokens.tolist(), labels)
            for p in parts
            for n, tokens, labels in zip(p.instances, p.tokens_BT, p.labels_BT, strict=True)
        ]
        assert len({tuple(p.tokens_BT.shape) for p in parts}) == 1
        for number, tokens, labels in rows:
            assert tokens == dataset.chunk(number).tolist()
            if (labels != NO_TARGET).any():
                seen.append(int(number))
    assert sorted(seen) == list(range(13))
    few = [n for b in evaluation_batches(dataset, RECIPE, batch=4, most=2) for n in b.instances.tolist()]
    assert few == [0, 1, 3, 4, 6, 8, 9, 11], "spread over all 13, not the first eight"
