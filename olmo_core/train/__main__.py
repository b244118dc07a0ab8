"""`python -m olmo_core.train RUN.json`, alone or under torchrun: trains, and tells how it ended by its exit code.

0 done; 75 preempted (SIGTERM, SIGINT) and resumable; 1 anything else, after a message that says what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from olmo_core.train.preemption import Preemption
from olmo_core.train.process import job
from olmo_core.train.run_file import read_run_file

if TYPE_CHECKING:
    from olmo_core.train.step import LossHook


def main(argv: Sequence[str] | None = None, *, hook: LossHook | None = None) -> int:
    """Train the run of a RUN.json; returns the exit code. `hook` may spoil losses, in tests."""

    def work(path: str, preemption: Preemption) -> int:
        run = read_run_file(path)
        from olmo_core.train.session import train

        return train(run, preemption, hook=hook)

    twice = "nothing was saved since the last checkpoint"
    return job(argv, work, module="olmo_core.train", about=__doc__ or "", file="RUN.json", twice=twice)


if __name__ == "__main__":
    sys.exit(main())
