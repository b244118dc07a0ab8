"""`python -m olmo_core.train RUN.json`, alone or under torchrun: trains, and tells how it ended by its exit code.

0 done; 75 preempted (SIGTERM, SIGINT) and resumable; 1 anything else, after a message that says what to do.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from olmo_core.errors import OlmoError
from olmo_core.provenance import refuse_foreign_package
from olmo_core.train.preemption import Preemption
from olmo_core.train.run_file import FAILED, read_run_file

if TYPE_CHECKING:
    from olmo_core.train.step import LossHook

log = logging.getLogger("olmo_core.train")


def main(argv: Sequence[str] | None = None, *, hook: LossHook | None = None) -> int:
    """Train the run of a RUN.json; returns the exit code. `hook` may spoil losses, in tests."""
    preemption = Preemption().listen()
    parser = argparse.ArgumentParser(prog="python -m olmo_core.train", description=__doc__)
    parser.add_argument("run_file", metavar="RUN.json")
    arguments = parser.parse_args(argv)
    rank = int(os.environ.get("RANK", "0"))
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format=f"%(asctime)s rank {rank} %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    try:
        refuse_foreign_package()
        run = read_run_file(arguments.run_file)
        # Not before: torch takes seconds to import, in which a signal must already be heard.
        from olmo_core.train.session import train

        return train(run, preemption, hook=hook)
    except OlmoError as error:
        log.error("%s", error)
    except KeyboardInterrupt:
        log.error("interrupted a second time: nothing was saved since the last checkpoint")
    except Exception:
        log.exception("the trainer failed; this is a bug: please report it")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
