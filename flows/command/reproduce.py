"""`olmo reproduce`: an artifact made again elsewhere from what its manifests say, compared stage by stage."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence

from flows.command import choices, tables
from flows.command.usage import UsageError, between, whole
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.reproduction.comparison import Outcome, Verdict

DESCRIPTION = """\
Make an artifact and everything it was made from again in another store, from the recipes and inputs in the manifests, and
compare what comes out. Stages of a corpus are compared by digest; what was trained must be bit-equal, or its losses within
a tolerance; numbers of evaluations must be equal, or within the interval they had. What differs is told with what is not as
it was then: commit, packages, hardware. What cannot be made again is copied, and said to be. Exit code 1 when something differs.

    olmo reproduce tokens/quickstart                       in a temporary store, which is deleted at the end
    olmo reproduce checkpoint/tiny@step100-tokens0B --to /data/again
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("artifact", type=choices.address)
    parser.add_argument(
        "--to",
        metavar="URI",
        help="the other store, which stays; what it has already is compared as it is (default: a temporary folder)",
    )
    parser.add_argument("--recipe", metavar="FILE", help="recipe of the corpus, for the places of its source files")
    parser.add_argument("--workers", type=whole(1), metavar="N", help="worker processes (default: one per core)")
    parser.add_argument(
        "--tolerance",
        type=between(0, float("inf")),
        metavar="NATS",
        help="by how much the mean loss of a run's last steps may differ where it is not bit-equal (default: 0.02)",
    )
    choices.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    from olmo_core.curation.corpus_recipe import load_recipe
    from olmo_core.curation.origins import CorpusOrigins
    from olmo_core.reproduction.rebuild import TOLERANCE, Reproduction, reproduce
    from olmo_core.workers import Workers

    store = choices.existing_store(arguments)
    ref = store.resolve(arguments.artifact)
    recipe = load_recipe(arguments.recipe) if arguments.recipe else None
    with _other(arguments.to) as uri, Workers(arguments.workers or len(os.sched_getaffinity(0))) as workers:
        again = ArtifactStore(uri)
        if again.uri == store.uri:
            raise UsageError(f"--to {uri} is the store that the artifact is in; give another one")
        work = Reproduction(
            made=store,
            again=again,
            origins=CorpusOrigins(store, recipe),
            workers=workers,
            tolerance=TOLERANCE if arguments.tolerance is None else arguments.tolerance,
            progress=None if arguments.json else _tell,
        )
        found = reproduce(work, ref)
    if arguments.json:
        tables.show_json({"artifact": str(ref), "store": again.uri, "outcomes": [one.to_json() for one in found]})
    else:
        _show(found)
    return 0 if all(one.verdict.well for one in found) else 1


@contextlib.contextmanager
def _other(uri: str | None) -> Iterator[str]:
    if uri is not None:
        yield uri
        return
    with tempfile.TemporaryDirectory(prefix="olmo-reproduce-") as folder:
        yield folder


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text[:110]}", end="", file=sys.stderr, flush=True)


def _show(found: Sequence[Outcome]) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    rows = [(one.stage, one.ref.address, str(one.verdict), f"{one.seconds:.1f}", one.detail[:120]) for one in found]
    tables.show(rows, ("stage", "artifact", "outcome", "seconds", ""), left=3)
    for one in found:
        if one.verdict in (Verdict.SAME, Verdict.COPIED):
            continue
        print(f"\n{one.ref.address}: {one.verdict}: {one.detail}")
        if one.inputs_differ:
            print(f"  of its inputs these are different already: {', '.join(one.inputs_differ)}")
        for line in one.environment:
            print(f"  not as it was: {line}")
        if not one.environment and not one.inputs_differ:
            print("  code, packages and hardware are as they were: please report it")
    counted = Counter(str(one.verdict) for one in found)
    print(f"\n{len(found)} artifacts: {', '.join(f'{n} {what}' for what, n in counted.most_common())}")
