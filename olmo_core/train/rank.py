"""What torchrun starts as each rank: trainer or evaluation, whose exit code is left in a file, as torchrun passes none on."""

from __future__ import annotations

import os
import runpy
import sys

from olmo_core.train.launch import DONE, FAILED, MODULE, TRAINER, leave_begun, leave_code
from olmo_core.train.preemption import Preemption


def main() -> int:
    """Run the module that OLMO_RANK_MODULE names (the trainer) with this process's arguments; returns its exit code."""
    code = FAILED
    Preemption().listen()  # the module's own takes over what this one has heard
    leave_begun()
    try:
        runpy.run_module(os.environ.get(MODULE, TRAINER), run_name="__main__", alter_sys=True)
        code = DONE
    except SystemExit as ended:
        code = DONE if ended.code is None else ended.code if isinstance(ended.code, int) else FAILED
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)  # noqa: T201 - what the interpreter would have done
    finally:
        leave_code(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
