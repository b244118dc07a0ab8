"""`olmo artifacts verify`: every object against its manifest, and with --repair, damaged shards made again."""

from __future__ import annotations

import argparse
import os
import sys
import time

from flows.command import tables
from flows.command.usage import UsageError, whole
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.repair import Checked, check, repair
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.report.markdown import size
from olmo_core.workers import Workers

DESCRIPTION = """\
Check that every object is there and has the size and sha256 that its manifest states. With --repair, shards that are
damaged are made again, by the recipe in the report of their run, after what they were made from; they are put back only
when they come out the same, byte for byte. Exit code 1 when something is damaged, 0 when all of it was repaired.
"""
_PAUSE = 5.0
"""Seconds between two lines of progress where lines cannot be overwritten."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "what",
        nargs="?",
        default="",
        metavar="KIND[/NAME[@TAG | /FINGERPRINT]]",
        help="all artifacts of a kind or a name, or one of them (default: everything in the store)",
    )
    parser.add_argument("--quick", action="store_true", help="presence and size only")
    parser.add_argument("--inputs", action="store_true", help="also everything they were made from")
    parser.add_argument("--repair", action="store_true", help="make damaged shards again (implies --inputs)")
    parser.add_argument(
        "--recipe", metavar="FILE", help="recipe of the run, where its source files are needed, or its report is gone"
    )
    parser.add_argument("--workers", type=whole(1), metavar="N", help="worker processes (default: one per core)")


def run(store: ArtifactStore, arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    refs = _asked(store, arguments.what)
    inputs = arguments.inputs or arguments.repair
    progress = None if arguments.json else Progress()
    found = check(store, refs, inputs=inputs, contents=not arguments.quick, progress=progress)
    damaged = [one for one in found if one.damages]
    if damaged and arguments.repair:
        from olmo_core.curation.corpus_recipe import load_recipe
        from olmo_core.curation.origins import CorpusOrigins

        recipe = load_recipe(arguments.recipe) if arguments.recipe else None
        with Workers(arguments.workers or len(os.sched_getaffinity(0))) as workers:
            say = progress.say if progress else None
            found = repair(store, found, CorpusOrigins(store, recipe), workers, say)
    if progress:
        progress.end()
    return _show(found, arguments)


def _asked(store: ArtifactStore, what: str) -> list[ArtifactRef] | None:
    kind, _, rest = what.partition("/")
    if not what:
        return None
    if kind not in set(Kind):
        raise UsageError(f"there is no kind {kind!r}; the kinds are {', '.join(Kind)}")
    if "/" in rest.strip("/") or "@" in rest:
        return [store.resolve(what)]
    found = [m.ref for m in store.finished(kind, rest.strip("/") or None)]
    return found or [store.resolve(what)]  # the latter says what there is instead


def _show(found: list[Checked], arguments: argparse.Namespace) -> int:
    damaged = [one for one in found if one.damages]
    left = [one for one in found if not one.well]
    if arguments.json:
        tables.show_json(
            {
                "verified": len(found),
                "objects": sum(one.objects for one in found),
                "bytes": sum(one.bytes for one in found),
                "damaged": {one.address: [d.__dict__ for d in one.damages] for one in damaged},
                "repaired": [one.address for one in damaged if one.repaired],
                "not_repaired": {one.address: one.problem for one in left if one.problem},
            }
        )
        return 1 if left else 0
    for one in damaged:
        for damage in one.damages:
            print(f"{'repaired' if one.repaired else 'damaged'}  {one.address}: {damage.path}: {damage.problem}")
        if one.problem:
            print(f"          not repaired: {one.problem}")
    text = f"{len(found)} artifacts, {sum(one.objects for one in found):,} objects, {size(sum(one.bytes for one in found))} verified; "
    text += f"{len(damaged)} artifacts damaged" + (f", {len(damaged) - len(left)} of them repaired" if damaged else "")
    print(
        text
        + ("" if not left or arguments.repair else "; `olmo artifacts verify --repair` makes what is damaged again")
    )
    return 1 if left else 0


class Progress:
    """How far it is, on the error stream: on one line of a terminal, or a line every few seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._told = time.monotonic()
        self._done = self._bytes = 0

    def __call__(self, one: Checked, of: int) -> None:
        """Count one artifact."""
        self._done += 1
        self._bytes += one.bytes
        self.say(f"{self._done} of {of} artifacts, {size(self._bytes)}: {one.address}")

    def say(self, text: str) -> None:
        """Show a line, unless one was shown a moment ago."""
        if self._terminal:
            print(f"\r\x1b[K{text[:110]}", end="", file=sys.stderr, flush=True)
        elif time.monotonic() - self._told > _PAUSE:
            self._told = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the terminal's line clean."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
