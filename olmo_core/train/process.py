"""How a process of a job begins and ends, be it training or evaluating: arguments, log, signals, exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from olmo_core.errors import OlmoError
from olmo_core.provenance import refuse_foreign_package
from olmo_core.train.launch import leave_failure
from olmo_core.train.preemption import Preemption
from olmo_core.train.run_file import FAILED


def job(
    argv: Sequence[str] | None,
    work: Callable[[str, Preemption], int],
    *,
    module: str,
    about: str,
    file: str,
    twice: str,
) -> int:
    """Do `work`, given the job file's path and the signals, and return its exit code, or FAILED after a message.

    `module` and `about`: name and description of the command; `file`: its argument; `twice`: what is said when a second signal
    ends it at once. Signals are heard from the first moment: `work` is to import what takes seconds (torch) itself.
    """
    preemption = Preemption().listen()
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=about)
    parser.add_argument("job_file", metavar=file)
    arguments = parser.parse_args(argv)
    rank = int(os.environ.get("RANK", "0"))
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format=f"%(asctime)s rank {rank} %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    log = logging.getLogger(module)
    try:
        refuse_foreign_package()
        return work(arguments.job_file, preemption)
    except OlmoError as error:
        log.error("%s", error)
        leave_failure(str(error))
    except KeyboardInterrupt:
        log.error("interrupted a second time: %s", twice)
    except Exception as error:
        log.exception("this is a bug: please report it")
        leave_failure(f"{type(error).__name__}: {error}; this is a bug: please report it, with what stands above")
    return FAILED
