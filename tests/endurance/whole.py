"""`python -m tests.endurance.whole`: from raw text to an evaluated model on S3 with faults, killed at random: the same bytes?

Runs data-to-model in processes of its own, with a Prefect server and worker: undisturbed on S3; with faults and two restarts of the
server, amid training and amid evaluation; and with faults and SIGKILLs at moments drawn over each stage's time, of a victim
that is drawn too, each kill followed by the same command again, or of a deployment's run by `prefect flow-run retry`. Then
every artifact is verified and compared with the first run's. Prints tables, writes JSON; the exit code is 1 on any difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.command import tables
from tests.endurance import campaigns
from tests.endurance.audit import differences
from tests.endurance.campaigns import ALL, CHILD, FLOW, KILLED, ORPHANED, PARENT, RETRIED, WORKER, Aim, ChainRun
from tests.endurance.progress import Stage
from tests.endurance.same import MAY_DIFFER
from tests.endurance.setting import SAVE_EVERY, Setting, begun, open_setting, write_chain
from tests.fault_proxy import OFTEN

S = Stage
CAMPAIGNS: dict[str, tuple[tuple[Stage, ...], dict[Stage, tuple[str, ...]], Callable[..., ChainRun]]] = {
    KILLED: (
        (
            S.CURATION, S.CURATION, S.BEFORE_TRAINING, S.TRAINING, S.TRAINING, S.TRAINING, S.BEFORE_EVALUATION, S.EVALUATION,
            S.EVALUATION, S.PUBLISHING,
        ),
        {
            S.CURATION: (FLOW, WORKER, ALL),
            S.BEFORE_TRAINING: (FLOW, "launcher", ALL),
            S.TRAINING: (ORPHANED, "rank", FLOW, "torchrun", "launcher", ALL),
            S.BEFORE_EVALUATION: (FLOW, ALL),
            S.EVALUATION: (FLOW, ALL),
            S.PUBLISHING: (FLOW, ALL),
        },
        campaigns.killed,
    ),
    RETRIED: (
        (S.CURATION, S.TRAINING, S.EVALUATION, S.PUBLISHING),
        {
            S.CURATION: (CHILD, WORKER, PARENT),
            S.TRAINING: (CHILD, "rank", PARENT),
            S.EVALUATION: (CHILD, PARENT),
            S.PUBLISHING: (PARENT,),
        },
        campaigns.retried,
    ),
}  # fmt: skip
"""By how a run goes on: the stages in which each store's run is killed, and who may be the victim there."""


def main(words: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    arguments = parse(words)
    if (seed := begun(arguments.seed)) is None:
        return 1
    began = time.time()
    done, ended = list[ChainRun](), False
    with tempfile.TemporaryDirectory(prefix="olmo-endurance-") as folder:
        trainer = ("--device", "cpu", "--threads", "1", "--save-every", str(SAVE_EVERY))
        with open_setting(Path(folder), write_chain, seed=seed, flow="data-to-model", words=trainer) as setting:
            try:
                endure(setting, arguments, random.Random(seed), done)
                ended = True
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # what was seen until then is worth a table
                print(f"stopped: {error!r}", flush=True)
    good = report(done, arguments, seed, time.time() - began)
    return 0 if good and ended else 1


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.endurance.whole",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs of `olmo run` in all (default: %(default)s)")
    parser.add_argument("--retries", type=int, default=4, help="and of deployment runs (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of kills and faults (default: drawn, and printed)")
    parser.add_argument("--json", type=Path, default=Path("bench-results/endurance-whole.json"), metavar="FILE")
    return parser.parse_args(words)


def endure(setting: Setting, arguments: argparse.Namespace, draw: random.Random, done: list[ChainRun]) -> None:
    """Do all runs and add them to `done`; compare each with the first."""

    def note(run: ChainRun) -> None:
        if done and (different := differences(run.compared, done[0].compared)):
            run.problems.append(
                f"{len(different)} of {len(done[0].compared)} are not those of the first run: {', '.join(different[:8])}"
            )
        done.append(run)
        kills = ", ".join(f"{one['victim']} in {one['stage']}" for one in run.kills)
        said = "ok" if not run.problems else "; ".join(run.problems)[-3000:]
        print(f"{run.how}: {run.seconds:.0f} s, {run.starts} starts, kills: {kills or 'none'}; {said}", flush=True)

    run, spans = campaigns.undisturbed(setting, "s3", "first")
    note(run)
    if not run.compared or run.problems:
        raise RuntimeError("the undisturbed run is not as it should be: there is nothing to compare with")
    note(campaigns.undisturbed(setting, "s3-faults", "restarts", restarts=True)[0])
    decks: dict[tuple[str, Stage], list[str]] = {}
    for number in range(arguments.kills + arguments.retries):
        left = {
            KILLED: arguments.kills - sum(len(one.kills) for one in done if one.how == KILLED),
            RETRIED: arguments.retries - sum(len(one.kills) for one in done if one.how == RETRIED),
        }
        how = RETRIED if left[RETRIED] > 0 and (number % 2 or left[KILLED] <= 0) else KILLED
        if left[how] <= 0:
            return
        stages, victims, work = CAMPAIGNS[how]
        aims = []
        for stage in stages[: left[how]]:
            deck = decks.setdefault((how, stage), [])
            deck += [] if deck else draw.sample(victims[stage], len(victims[stage]))  # each once before one comes again
            aims.append(Aim(stage=stage, victim=deck.pop()))
        note(work(setting, f"chain-{number}", aims, spans, draw))
    raise RuntimeError(
        f"chains end before they are killed: {arguments.kills + arguments.retries} of them were not enough"
    )


def report(done: list[ChainRun], arguments: argparse.Namespace, seed: int, seconds: float) -> bool:
    """Print the tables, write the JSON; returns whether all is well."""
    rows: list[tuple[Any, ...]] = []
    for run in done:
        a = run.audit
        facts = (a.manifests, len(a.digests), a.twice, a.orphans) if a else (None,) * 4
        trainers = f"{run.trainers.get('jobs')}/{run.trainers.get('epochs')}/{run.trainers.get('most')}"
        rows.append(
            (run.store, run.how, round(run.seconds), run.starts, len(run.kills), *facts, trainers, run.unplanned, run.processes_left, "no" if run.problems else "yes")
        )  # fmt: skip
    print()
    header = (
        "store",
        "run",
        "seconds",
        "starts",
        "kills",
        "artifacts",
        "objects",
        "twice",
        "orphans",
        "jobs/epochs/at once",
        "unplanned",
        "left",
        "same",
    )
    tables.show(rows, header, left=2)
    table = Counter((kill["stage"], kill["victim"], run.how) for run in done for kill in run.kills)
    print("\nkills")
    order = [str(stage) for stage in Stage]
    by_stage = sorted(table.items(), key=lambda one: (order.index(one[0][0]), one[0][1:]))
    tables.show([(*key, n) for key, n in by_stage], ("stage", "victim", "followed by", "kills"), left=3)
    faults = {stage: Counter[str]() for stage in order}
    for run in done:
        for stage, count in run.faults.items():
            faults[stage].update(count)
    kinds = ["requests", *map(str, OFTEN)]
    print("\nrequests through the proxy, and their faults")
    tables.show([(s, *(c[kind] for kind in kinds)) for s, c in faults.items() if c], ("stage", *kinds))
    kills = sum(table.values())
    whole = sum(faults.values(), Counter[str]())
    never = [kind for kind in kinds if not whole[kind]]
    for run in done:
        for problem in run.problems:
            print(f"DIFFERENT {run.store}, {run.how}: {problem}")
    if never:
        print(f"never happened: {', '.join(never)}; nothing is shown about it")
    good = not never and not any(run.problems for run in done) and all(run.compared for run in done)
    compared = len(done[0].compared) if done else 0
    print(
        f"\n{kills} kills, seed {seed}; {compared} digests, fingerprints and tags compared; {'all the same' if good else 'NOT all the same'}; {seconds:.0f} s"
    )
    for one in MAY_DIFFER:
        print(
            f"not compared: {one.objects}, {'all of it' if one.fields is None else ', '.join(sorted(one.fields))}: {one.why}"
        )
    print(
        "not compared: checkpoints saved only as a trainer was told to end (unplanned); nothing else may depend on them"
    )
    facts_ = {
        "seed": seed,
        "seconds": round(seconds),
        "good": good,
        "load": os.getloadavg(),
        "cores": os.cpu_count(),
        "compared": compared,
    }
    text = json.dumps({**facts_, "kills": kills, "faults": faults, "runs": [run.to_json() for run in done]}, indent=1)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(text, encoding="utf-8")
    print(f"{arguments.json}")
    return good


if __name__ == "__main__":
    sys.exit(main())
