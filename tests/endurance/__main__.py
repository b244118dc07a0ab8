"""`python -m tests.endurance`: the chain gives the same bytes on any store, with any number of workers, after any kill.

Runs the real command in processes of its own: undisturbed on each store with each number of workers; two at the same
time; and killed by SIGKILL at random moments, each kill followed by the same command again. Then every artifact of every
store is verified, and every object's sha256 is compared with the first run's. Prints a table, writes JSON; the exit code
is 1 on any difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from flows.command import tables
from tests.endurance import runs
from tests.endurance.audit import differences
from tests.endurance.runs import Run, Span
from tests.endurance.setting import STORES, Setting, begun, open_setting, write_recipe
from tests.fault_proxy import OFTEN

KILLS_OF_A_STORE = 8
"""Kills before a store is let come to its end; the next kills hit another one."""


def main(words: list[str] | None = None) -> int:
    """Run it; returns the exit code."""
    arguments = parse(words)
    if (seed := begun(arguments.seed)) is None:
        return 1
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="olmo-endurance-") as folder:
        write = partial(write_recipe, max_bytes=arguments.max_bytes)
        with open_setting(Path(folder), write, seed=seed) as setting:
            done, ended = list[Run](), False
            try:
                endure(setting, arguments, random.Random(seed), done)
                ended = True
            except (Exception, SystemExit, KeyboardInterrupt) as error:  # what was seen until then is worth a table
                print(f"stopped: {error!r}", flush=True)
            counts = {str(fault): n for fault, n in setting.proxy.counts.items()}
            requests = sum(setting.proxy.requests.values())
    good = report(done, counts, requests, arguments, seed, time.time() - began)
    return 0 if good and ended else 1


def parse(words: list[str] | None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.endurance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="SIGKILLs in all (default: %(default)s)")
    parser.add_argument(
        "--retries",
        type=int,
        default=2,
        help="further kills, of deployment runs, each followed by `prefect flow-run retry` (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, help="of kills and faults (default: drawn, and printed)")
    parser.add_argument("--max-bytes", type=int, default=3_000_000, help="text of the corpus (default: %(default)s)")
    parser.add_argument("--workers", default="1,2,4", help="numbers of worker processes (default: %(default)s)")
    parser.add_argument("--stores", default=",".join(STORES), help="kinds of stores (default: %(default)s)")
    parser.add_argument(
        "--json",
        type=Path,
        default=Path("bench-results/endurance.json"),
        metavar="FILE",
        help="where the results go (default: %(default)s)",
    )
    arguments = parser.parse_args(words)
    arguments.workers = [int(word) for word in arguments.workers.split(",")]
    arguments.stores = arguments.stores.split(",")
    if wrong := set(arguments.stores) - set(STORES):
        parser.error(f"--stores: {', '.join(sorted(wrong))}; there are {', '.join(STORES)}")
    return arguments


def endure(setting: Setting, arguments: argparse.Namespace, draw: random.Random, done: list[Run]) -> None:
    """Do all runs and add them to `done`; compare each with the first."""
    spans: dict[str, Span] = {}

    def note(run: Run) -> None:
        if done and run.audit is not None and done[0].audit is not None:
            different = differences(run.audit.digests, done[0].audit.digests)
            if different:
                run.problems.append(
                    f"{len(different)} objects are not those of the first run: {', '.join(different[:5])}"
                )
        done.append(run)
        print(
            f"{run.store:<10} {run.workers} workers  {run.how}: {run.seconds:.0f} s, {len(run.kills)} kills, {'ok' if not run.problems else run.problems[0][-600:]}",
            flush=True,
        )

    for store in arguments.stores:
        for workers in arguments.workers:
            run, span = runs.undisturbed(setting, store, workers, f"{store}-{workers}")
            # The shortest: in a fresh checkout the first run compiles the kernels, and kills would come too late.
            spans[store] = min(span, spans.get(store, span), key=lambda s: s.end - s.first)
            note(run)
    if "s3-faults" in arguments.stores:
        note(runs.undisturbed(setting, "s3-faults", 2, "s3-restart", restart=True)[0])
    for store in arguments.stores:
        if store != "local":
            note(runs.two_at_once(setting, store, 2, f"two-{store}"))
    number = 0
    while (left := arguments.kills - sum(len(r.kills) for r in done if r.how == "killed")) > 0:
        store = arguments.stores[::-1][number % len(arguments.stores)]
        workers = arguments.workers[number % len(arguments.workers)]
        note(runs.killed(setting, store, workers, f"kill-{number}", spans[store], draw, min(left, KILLS_OF_A_STORE)))
        number += 1
    # Last: a run that the worker has started is the hardest to watch.
    for number in range(arguments.retries if "s3-faults" in spans else 0):
        note(runs.retried(setting, 2, f"retry-{number}", spans["s3-faults"], draw))


def report(
    done: list[Run], counts: dict[str, int], requests: int, arguments: argparse.Namespace, seed: int, seconds: float
) -> bool:
    """Print the table, write the JSON; returns whether all is well."""
    rows: list[tuple[Any, ...]] = []
    for run in done:
        a = run.audit
        facts = (len(a.digests), a.manifests, a.shards, a.twice, a.orphans) if a else (None,) * 5
        built = "+".join(map(str, run.built)) if len(run.built) < 5 else f"{sum(run.built)} in {len(run.built)} starts"
        rows.append(
            (
                run.store,
                run.how,
                run.workers,
                round(run.seconds),
                len(run.kills),
                *facts,
                built,
                "no" if run.problems else "yes",
            )
        )
    print()
    header = (
        "store",
        "run",
        "workers",
        "seconds",
        "kills",
        "objects",
        "artifacts",
        "shards",
        "twice",
        "orphans",
        "built",
        "same",
    )
    tables.show(rows, header, left=2)
    kills = sum(len(run.kills) for run in done)
    print(
        f"\n{kills} kills, seed {seed}; proxy: {requests} requests, {sum(counts.values())} faults: {', '.join(f'{f} {n}' for f, n in sorted(counts.items()))}"
    )
    missing = "s3-faults" in arguments.stores and not all(counts.get(str(f)) for f in OFTEN)
    if missing:
        print("some kind of fault never happened: nothing is shown about it")
    for run in done:
        for problem in run.problems:
            print(f"DIFFERENT {run.store}, {run.how}, {run.workers} workers: {problem}")
    good = (
        not missing and not any(run.problems for run in done) and all(run.audit and run.audit.digests for run in done)
    )
    print(f"{'all the same' if good else 'NOT all the same'}; {seconds:.0f} s")
    facts_ = {
        "seed": seed,
        "max_bytes": arguments.max_bytes,
        "seconds": round(seconds),
        "good": good,
        "load": os.getloadavg(),
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {
            **facts_,
            "cores": os.cpu_count(),
            "requests": requests,
            "faults": counts,
            "runs": [run.to_json() for run in done],
        },
        indent=1,
    )
    arguments.json.write_text(text, encoding="utf-8")
    print(f"{arguments.json}")
    return good


if __name__ == "__main__":
    sys.exit(main())
