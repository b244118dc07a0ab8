"""Real ranks for tests: processes with gloo, on CPU, each with one thread.

Starting Python with torch takes seconds, so the same processes serve all tests of a session, each time with a process
group of its own. A test that kills ranks gets processes of its own.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

_SECONDS = 700.0
_kept: list[Rank] = []


class Rank:
    """One process that takes calls until it is ended."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.calls, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.join(30)
        self.calls.close()


def run_ranks(
    world: int, function: Callable[..., Any], folder: Path, *arguments: Any, killed: bool = False
) -> list[Any]:
    """Call `function(rank, world, *arguments)` on so many ranks and return what each returned.

    With `killed`, ranks may die (None is their result); otherwise the test fails with the traceback of one that failed.
    """
    ranks = [] if killed else _kept
    while len(ranks) < world:
        ranks.append(Rank())
    chosen = ranks[:world]
    meeting = folder / f"meeting-{time.monotonic_ns()}"
    for number, one in enumerate(chosen):
        one.calls.send((number, world, str(meeting), function, arguments, killed))
    found: dict[int, tuple[bool, Any]] = {}
    deadline = time.monotonic() + _SECONDS
    while len(found) < world and time.monotonic() < deadline:
        todo = {one.calls: number for number, one in enumerate(chosen) if number not in found}
        for ready in wait(list(todo), 1.0):
            assert isinstance(ready, Connection)
            try:
                found[todo[ready]] = ready.recv()
            except EOFError:
                found[todo[ready]] = (killed, None if killed else f"rank {todo[ready]} died")
        if any(not good for good, _ in found.values()):
            break
    wrong = [value for good, value in found.values() if not good]
    if killed or wrong or len(found) < world:
        for one in ranks:
            one.end()
        ranks.clear()
    if wrong:
        raise AssertionError(wrong[0])
    assert len(found) == world, f"ranks {sorted(set(range(world)) - found.keys())} do not end"
    return [found[number][1] for number in range(world)]


@atexit.register
def _end() -> None:
    for one in _kept:
        one.end()


def _serve(calls: Connection) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    while True:
        rank, world, meeting, function, arguments, last = calls.recv()
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
        try:
            answer = (True, function(rank, world, *arguments))
            if not last:
                dist.barrier()
        except BaseException:
            answer = (False, f"rank {rank} of {world}:\n{traceback.format_exc()}")
        calls.send(answer)
        if answer[0] and not last:
            dist.destroy_process_group()
