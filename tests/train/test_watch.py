"""Who died and who hangs: several watches on one store, as ranks have them, stand for processes."""

from __future__ import annotations

import queue

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from olmo_core.errors import RecipeError, WorkerError
from olmo_core.train.watch import Watch

LIMIT = 3.0
"""Seconds: on a busy machine a whole process may stand still for one or two."""
BEYOND = 80
"""Twentieths of a second that are longer than the limit."""


class Ranks:
    """Watches of all ranks, and the verdicts that they reached."""

    def __init__(self, size: int, limit: float, interval: float = 0.05) -> None:
        self.store, self.verdicts = HashStore(), queue.Queue[str]()
        self.watches = [Watch(self.store, r, size, limit, self.verdicts.put, interval=interval) for r in range(size)]

    def stop(self, *ranks: int) -> None:
        """End the threads of some ranks, of all by default: as if their processes were gone."""
        for rank in ranks or range(len(self.watches)):
            self.watches[rank].stop()

    def verdict(self) -> str:
        """The next verdict."""
        return self.verdicts.get(timeout=300)


def test_the_rank_that_is_behind_hangs() -> None:
    ranks = Ranks(3, limit=LIMIT)
    for rank, marks in enumerate([4, 3, 4]):
        for number in range(marks):
            ranks.watches[rank].at(f"at step {number}")
    said = [ranks.verdict() for _ in range(3)]
    assert len(set(said)) == 1
    assert said[0].startswith("rank 1 (host")
    assert "hangs, and the others wait for it; last seen at step 2" in said[0]
    assert "resources.hang_seconds" in said[0]
    ranks.stop()


def test_ranks_that_go_on_are_left_alone() -> None:
    ranks = Ranks(2, limit=LIMIT)
    for number in range(BEYOND):
        for watch in ranks.watches:
            watch.at(f"step {number}")
        with pytest.raises(queue.Empty):
            ranks.verdicts.get(timeout=0.05)
    ranks.stop()


def test_a_slow_rank_that_others_wait_for_is_left_alone() -> None:
    ranks = Ranks(2, limit=LIMIT)
    for number in range(10):
        ranks.watches[0].at(f"token file {number}")  # all of them at once, and then it waits
    for number in range(6):
        ranks.watches[1].at(f"token file {number}")
        with pytest.raises(queue.Empty):
            ranks.verdicts.get(timeout=LIMIT / 4)
    said = ranks.verdict()  # until it stands still itself
    assert said.startswith("rank 1 (host") and "last seen token file 5" in said
    ranks.stop()


def test_who_waits_for_the_store_does_not_hang_until_it_says_nothing_more() -> None:
    ranks = Ranks(2, limit=LIMIT)
    for watch in ranks.watches:
        watch.at("after step 9, saving")
    for _ in range(BEYOND):
        ranks.watches[1].alive()  # rank 0 has stored its part, and waits for this one
        with pytest.raises(queue.Empty):
            ranks.verdicts.get(timeout=0.05)
    said = ranks.verdict()
    assert "hang together" in said and "last seen after step 9, saving" in said
    ranks.stop()


@pytest.mark.parametrize("gone", [0, 2])
def test_a_rank_without_a_sign_of_life_is_named(gone: int) -> None:
    ranks = Ranks(3, limit=LIMIT)
    ranks.stop(gone)
    said = ranks.verdict()
    assert said.startswith(f"rank {gone} (host")
    assert "no sign of life" in said
    ranks.stop()


def test_a_broken_collective_is_blamed_on_the_rank_that_died() -> None:
    ranks = Ranks(3, limit=60, interval=1)  # a living one must be heard within 2.5 intervals
    ranks.watches[1].at("at step 7, computing")
    ranks.watches[1]._tell()
    ranks.stop(1)
    said = ranks.watches[2].blame(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"))
    assert said.startswith("rank 1 died (host")
    assert "last heard at step 7, computing" in said
    ranks.stop(0, 2)


def test_an_error_of_ones_own_is_told_to_the_others() -> None:
    ranks = Ranks(2, limit=60)
    ranks.watches[1].at("opening the tokens")
    assert ranks.watches[1].blame(RecipeError("batch: 3")) == "rank 1 failed while opening the tokens: batch: 3"
    assert ranks.watches[0].blame(WorkerError("a rank does not answer")) == "rank 1 failed: batch: 3"
    assert "rank 1 failed" in ranks.verdict()
    ranks.stop()
