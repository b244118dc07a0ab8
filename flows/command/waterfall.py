"""`olmo waterfall`: what each stage of a corpus kept and dropped, with a few documents of each kind."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from flows.command import choices, tables
from flows.command.usage import whole
from olmo_core.artifacts.manifest import Manifest
from olmo_core.report.explain import manifests_of
from olmo_core.report.markdown import count, size
from olmo_core.report.waterfall import waterfall

DESCRIPTION = (
    "Print the waterfall of a corpus's newest run: documents, bytes and tokens kept and dropped by stage and reason.\n"
)

_NOT_FOR_A_TERMINAL = ("lexicon_", "pii_")
"""Columns behind rules whose examples are swear words or somebody's address: nobody asked to have them on a screen."""
_IN_REPORT = "(its text is in the report: `olmo report CORPUS --open`)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("corpus", nargs="?", default="quickstart", help="name of the corpus (default: %(default)s)")
    parser.add_argument(
        "--examples",
        type=whole(0),
        default=0,
        metavar="N",
        help="also N documents dropped by each rule, duplicated, kept",
    )
    choices.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    store = choices.existing_store(arguments)
    manifests = manifests_of(store, arguments.corpus)
    if arguments.json:
        tables.show_json([line.to_json() for line in waterfall(manifests)])
        return 0
    print_waterfall(manifests)
    if arguments.examples:
        report = store.manifest(store.resolve(f"report/{arguments.corpus}"))
        _print_examples(json.loads(store.storage.read(report.object("report.json").path)), arguments.examples)
    return 0


def print_waterfall(manifests: Mapping[str, Manifest]) -> None:
    """Print the waterfall as a table."""
    rows = []
    for line in waterfall(manifests):
        about = "" if line.stage == "packing" else "~"
        rows.append(
            (
                f"{line.stage}/{line.source}" if line.what == "in" or line.stage == "packing" else "",
                line.what,
                f"{line.sign}{line.documents:,}".rjust(9),
                f"{line.sign}{size(line.bytes)}".rjust(10),
                f"{about}{line.sign}{count(line.tokens)}".rjust(10),
            )
        )
    tables.show(rows, ("stage", "what", "documents", "     text", "   tokens"), left=5)


def _print_examples(report: dict[str, Any], each: int) -> None:
    for kind, title in (("dropped", "dropped"), ("duplicates", "duplicates"), ("kept", "kept")):
        print(f"\n{title}")
        shown: dict[str, int] = {}
        for example in report["examples"][kind]:
            group = f"{example['reason']} {example['source']}"
            shown[group] = shown.get(group, 0) + 1
            if shown[group] <= each:
                facts = ", ".join(
                    f"{k} = {v:.3g}" if isinstance(v, float) else f"{k} = {v}" for k, v in example["facts"].items()
                )
                hidden = any(name.startswith(_NOT_FOR_A_TERMINAL) for name in example["facts"])
                first = _IN_REPORT if hidden else " ".join(example["text"].split())[:90]
                print(f"  {example['reason']}: {example['source']}/{example['id']} ({facts})\n      {first}")
