"""Real ranks for tests: processes with gloo, on CPU, each with one thread."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SECONDS = 120.0


def run_ranks(
    world: int, function: Callable[..., Any], folder: Path, *arguments: Any, killed: bool = False
) -> list[Any]:
    """Call `function(rank, world, *arguments)` on so many ranks and return what each returned.

    With `killed`, ranks may die (None is their result); otherwise the test fails with the traceback of those that failed.
    """
    context = multiprocessing.get_context("spawn" if killed else "forkserver")
    meeting = folder / f"meeting-{time.monotonic_ns()}"
    answers = context.SimpleQueue()
    processes = [
        context.Process(target=_rank, args=(rank, world, str(meeting), answers, function, arguments))
        for rank in range(world)
    ]
    for one in processes:
        one.start()
    deadline = time.monotonic() + _SECONDS
    found: dict[int, tuple[bool, Any]] = {}
    try:
        while len(found) < world:
            if not answers.empty():
                rank, good, value = answers.get()
                found[rank] = (good, value)
                continue
            dead = [n for n, one in enumerate(processes) if one.exitcode is not None and n not in found]
            if dead and answers.empty():
                if not killed:
                    break
                found |= {n: (True, None) for n in dead}
            assert time.monotonic() < deadline, f"ranks {sorted(set(range(world)) - found.keys())} do not end"
            time.sleep(0.01)
    finally:
        for one in processes:
            if len(found) < world:
                one.kill()
            one.join(30)
    if wrong := [value for good, value in found.values() if not good]:
        raise AssertionError(wrong[0])
    assert len(found) == world, f"a rank died: exit codes {[one.exitcode for one in processes]}"
    return [found[rank][1] for rank in range(world)]


def _rank(
    rank: int, world: int, meeting: str, answers: Any, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    try:
        answers.put((rank, True, function(rank, world, *arguments)))
    except BaseException:
        answers.put((rank, False, f"rank {rank} of {world}:\n{traceback.format_exc()}"))
        os._exit(1)  # the others may wait for this one
    dist.barrier()
    dist.destroy_process_group()
