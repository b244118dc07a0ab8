"""The trainer with faults, for tests: `python -m tests.train.faulty RUN.json --kill 1:7 ...`.

Faults come by the trainer's hook for losses, on ranks and at steps that are named; which instances each rank has trained
on is written to a file of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train.__main__ import main
from olmo_core.train.loader import Batch, Loader
from olmo_core.train.run_file import RunFile, read_run_file

RANK = int(os.environ.get("RANK", "0"))


def _record(folder: Path) -> None:
    """Let the loader note what it hands out."""
    prefetch = Loader.prefetch

    def noting(self: Loader, first: int, **options: Any) -> Iterator[Batch]:
        with open(folder / f"instances-{os.getpid()}.jsonl", "a") as out:
            for batch in prefetch(self, first, **options):
                print(json.dumps([batch.index, RANK, batch.instances.tolist()]), file=out, flush=True)
                yield batch

    Loader.prefetch = noting  # type: ignore[method-assign]


def instances(folder: Path) -> dict[int, set[int]]:
    """The instances of each batch, over all ranks, as `_record` noted them; they must agree where a batch came twice."""
    by_rank: dict[tuple[int, str, int], list[int]] = {}
    for path in folder.glob("instances-*.jsonl"):
        for index, rank, found in map(json.loads, path.read_text().splitlines()):
            by_rank[index, path.name, rank] = found
    found: dict[int, set[int]] = {}
    for (index, _, _), some in by_rank.items():
        found.setdefault(index, set()).update(some)
    return found


def _place(text: str | None) -> tuple[int, int] | None:
    """`rank:step`; the rank may be `*`."""
    if text is None:
        return None
    rank, _, step = text.partition(":")
    return (RANK if rank == "*" else int(rank)), int(step)


def _await_checkpoint(run: RunFile, step: int) -> None:
    store, pause = ArtifactStore(run.store), threading.Event()
    while store.find(run.checkpoint(step)) is None:
        pause.wait(0.02)


def faulty() -> int:
    """Run the trainer with the faults of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run_file")
    parser.add_argument("--kill")
    parser.add_argument("--hang")
    parser.add_argument("--terminate")
    parser.add_argument("--fail")
    parser.add_argument("--after-checkpoint", type=int)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    if arguments.record:
        _record(arguments.record)

    def hook(step: int, index: int, loss: torch.Tensor) -> torch.Tensor:
        here = (RANK, step)
        if here == _place(arguments.kill):
            if arguments.after_checkpoint is not None:
                _await_checkpoint(read_run_file(arguments.run_file), arguments.after_checkpoint)
            os.kill(os.getpid(), signal.SIGKILL)
        if here == _place(arguments.hang):
            threading.Event().wait()
        if here == _place(arguments.terminate):
            os.kill(os.getpid(), signal.SIGTERM)
        if here == _place(arguments.fail):
            raise ValueError("a fault of this rank alone")
        return loss

    return main([arguments.run_file], hook=hook)


def spoil(first: int, end: int) -> Any:
    """A hook that makes the loss of batches `first` to `end` - 1 not finite."""

    def hook(step: int, index: int, loss: torch.Tensor) -> torch.Tensor:
        return loss * math.nan if first <= index < end else loss

    return hook


if __name__ == "__main__":
    sys.exit(faulty())
