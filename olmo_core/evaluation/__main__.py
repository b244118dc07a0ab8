"""`python -m olmo_core.evaluation EVAL.json`, alone or under torchrun: evaluates, and tells how it ended by its exit code.

0 done; 75 asked to end (SIGTERM, SIGINT): finished benchmarks and all scores so far are kept, and the same command goes on
from there; 1 anything else, after a message that says what to do. Under torchrun all processes score, and rank 0 alone
reads the benchmarks and writes the artifacts.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from olmo_core.train.preemption import Preemption
from olmo_core.train.process import job
from olmo_core.train.run_file import DONE, PREEMPTED

log = logging.getLogger("olmo_core.evaluation")


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate what an EVAL.json says; returns the exit code."""
    twice = "scores are kept all the same"
    return job(argv, evaluate, module="olmo_core.evaluation", about=__doc__ or "", file="EVAL.json", twice=twice)


def evaluate(path: str, preemption: Preemption) -> int:
    """Evaluate; returns DONE, or PREEMPTED when a signal came to any rank."""
    from olmo_core.evaluation.run_file import read_evaluation_run
    from olmo_core.evaluation.session import evaluate_all
    from olmo_core.evaluation.team import Preempted

    try:
        evaluate_all(read_evaluation_run(path), preemption)
    except Preempted:
        log.warning("%s: ended early; the same command goes on from here", preemption.signal or "another rank")
        return PREEMPTED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
