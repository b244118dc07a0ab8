"""`python -m olmo_core.evaluation EVAL.json`, alone or under torchrun: evaluates, and tells how it ended by its exit code.

0 done; 75 asked to end (SIGTERM, SIGINT): finished benchmarks and all scores so far are kept, and the same command goes on
from there; 1 anything else, after a message that says what to do. Under torchrun all processes score, and rank 0 alone
reads the benchmarks and writes the artifacts.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from olmo_core.errors import OlmoError
from olmo_core.provenance import refuse_foreign_package
from olmo_core.train.preemption import Preemption

log = logging.getLogger("olmo_core.evaluation")
DONE, PREEMPTED, FAILED = 0, 75, 1


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate what an EVAL.json says; returns the exit code."""
    preemption = Preemption().listen()
    parser = argparse.ArgumentParser(prog="python -m olmo_core.evaluation", description=__doc__)
    parser.add_argument("run_file", metavar="EVAL.json")
    arguments = parser.parse_args(argv)
    rank = int(os.environ.get("RANK", "0"))
    logging.basicConfig(
        level=logging.INFO if rank == 0 else logging.WARNING,
        format=f"%(asctime)s rank {rank} %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    try:
        refuse_foreign_package()
        # Not before: torch takes seconds to import, in which a signal must already be heard.
        from olmo_core.evaluation.run_file import read_evaluation_run
        from olmo_core.evaluation.session import evaluate_all
        from olmo_core.evaluation.team import Preempted

        try:
            evaluate_all(read_evaluation_run(arguments.run_file), preemption)
            return DONE
        except Preempted:
            log.warning("%s: ended early; the same command goes on from here", preemption.signal or "another rank")
            return PREEMPTED
    except OlmoError as error:
        log.error("%s", error)
    except KeyboardInterrupt:
        log.error("interrupted a second time; scores are kept all the same")
    except Exception:
        log.exception("the evaluation failed; this is a bug: please report it")
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
