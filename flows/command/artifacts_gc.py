"""`olmo artifacts gc`: what nothing refers to any more, shown or deleted."""

from __future__ import annotations

import argparse
import datetime

from flows.command import choices, tables
from flows.command.artifacts_verify import Progress
from flows.command.usage import between
from olmo_core.artifacts.gc import Collection, collect
from olmo_core.artifacts.reach import Grace
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.report.markdown import size

DESCRIPTION = """\
Show what could go; with --delete, delete it. Kept is what a tag stands for and everything that was made from, what was
finished or used in the last --keep-days, and what a run under way relies on. Tags are never removed: `olmo artifacts ls`
lists them. Also goes what broken-off runs left, if nothing was written there for --attempt-hours. Runs may go on meanwhile
if none takes longer than --keep-days, as its stages get their tags at its end, and none is without a finished shard for
--attempt-hours.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--dry-run", action="store_true", help="only show what would go (the default)")
    mode.add_argument("--delete", action="store_true", help="delete it")
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        type=choices.address,
        metavar="ARTIFACT",
        help="keep this one too, with all it was made from: kind/name/fingerprint; repeatable",
    )
    parser.add_argument(
        "--keep-days",
        type=between(0, float("inf")),
        default=7.0,
        metavar="D",
        help="keep what was finished or used in the last D days (default: 7); no run may take longer",
    )
    parser.add_argument(
        "--attempt-hours",
        type=between(0, float("inf")),
        default=24.0,
        metavar="H",
        help="keep unfinished work written to in the last H hours (default: 24; less only while nothing runs)",
    )


def run(store: ArtifactStore, arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    progress = None if arguments.json else Progress()
    grace = Grace(
        artifact_seconds=arguments.keep_days * 86_400,
        attempt_seconds=arguments.attempt_hours * 3600,
    )
    keep = [store.resolve(text) for text in arguments.keep]
    found = collect(store, keep=keep, grace=grace, delete=arguments.delete, progress=progress.say if progress else None)
    if progress:
        progress.end()
    if arguments.json:
        tables.show_json({"store": store.uri, **_json(found)})
        return 0
    rows = [(one.what, one.address, one.objects, size(one.bytes), _day(one.last)) for one in found.waste]
    if rows:
        tables.show(rows, ("what", "where", "objects", "stored", "last used"), left=2)
        print()
    for address in found.spared:
        print(f"came into use meanwhile, and stays: {address}")
    done = "deleted" if found.deleted else "could go"
    print(
        f"{found.objects:,} objects, {size(found.bytes)}, and {found.leftovers} unfinished writes {done}; "
        f"{found.kept} artifacts stay" + ("" if found.deleted or not rows else ". --delete does it")
    )
    return 0


def _json(found: Collection) -> dict[str, object]:
    waste = [{**one.__dict__, "last": _day(one.last)} for one in found.waste]
    return {
        "deleted": found.deleted,
        "objects": found.objects,
        "bytes": found.bytes,
        "leftovers": found.leftovers,
        "kept": found.kept,
        "spared": list(found.spared),
        "waste": waste,
    }


def _day(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="minutes")
