"""`olmo waterfall`: what each stage of a corpus kept and dropped, with a few documents of each kind; of two corpora, what differs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from flows.command import choices, tables
from flows.command.usage import UsageError, whole
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import ALL_STAGES
from olmo_core.report.explain import manifests_behind
from olmo_core.report.markdown import count, size
from olmo_core.report.two_corpora import LinePair, TwoCorpora, compare
from olmo_core.report.waterfall import waterfall

DESCRIPTION = (
    "Print the waterfall of a corpus's newest run: documents, bytes and tokens kept and dropped by stage and reason.\n"
    "Of two corpora, or two builds of one, print both side by side, and what in their recipes makes the difference.\n"
)

_NOT_FOR_A_TERMINAL = ("lexicon_", "pii_")
"""Columns behind rules whose examples are swear words or somebody's address: nobody asked to have them on a screen."""
_IN_REPORT = "(its text is in the report: `olmo report CORPUS --open`)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "corpus",
        nargs="?",
        type=_report,
        default="quickstart",
        help="its name (default: %(default)s); an earlier build is NAME@TAG or NAME/FINGERPRINT (`olmo artifacts ls report`)",
    )
    parser.add_argument("other", nargs="?", type=_report, help="compare the first with this one")
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
    report = store.manifest(store.resolve(f"report/{arguments.corpus}"))
    if arguments.other:
        if arguments.examples:
            raise UsageError("--examples is of one corpus: leave it out, or the second name")
        _compare(store, report, store.manifest(store.resolve(f"report/{arguments.other}")), as_json=arguments.json)
        return 0
    manifests = manifests_behind(store, report)
    if arguments.json:
        tables.show_json([line.to_json() for line in waterfall(manifests)])
        return 0
    print_waterfall(manifests)
    if arguments.examples:
        _print_examples(json.loads(store.storage.read(report.object("report.json").path)), arguments.examples)
    return 0


def _report(text: str) -> str:
    choices.address(f"report/{text}")
    return text


def _compare(store: ArtifactStore, a: Manifest, b: Manifest, *, as_json: bool) -> None:
    compared = compare(manifests_behind(store, a), manifests_behind(store, b))
    if as_json:
        tables.show_json({"reports": {"a": a.ref, "b": b.ref}, **compared.to_json()})
        return
    for side, report in (("a", a), ("b", b)):
        print(f"{side}  {report.ref}, built {report.ended[:16].replace('T', ' ')}")
    print()
    rows, place = [], ""
    for one in compared.lines:
        here = f"{one.stage}/{one.source}"
        rows.append((here if here != place else "", one.what, *_numbers(one, "documents"), *_numbers(one, "bytes")))
        place = here
        if one.stage == "packing":  # counted there, and estimated before, from other documents in each corpus
            rows.append(("", "tokens", "", "", "", *_numbers(one, "tokens")))
    tables.show(rows, ("stage", "what", "documents a", "b", "b - a", "text a", "b", "b - a"), left=2, right=6)
    print()
    for line in _what_differs(compared):
        print(line)


def _numbers(pair: LinePair, number: str) -> tuple[str, str, str]:
    """Return a number of both corpora and their difference; nothing for a line that one has not, and for no difference."""
    shown = size if number == "bytes" else "{:,}".format
    a, b = (f"{line.sign}{shown(getattr(line, number))}" if line else "" for line in (pair.a, pair.b))
    change = pair.change(number)
    return a, b, f"{'+' if change > 0 else ''}{shown(change)}" if change else ""


def _what_differs(compared: TwoCorpora) -> Iterator[str]:
    """Say in lines why two corpora are not the same, in the order of the chain."""
    if not (compared.reasons or compared.only_a or compared.only_b or compared.follow):
        yield "the same artifacts throughout"
        return
    for label in _in_order(compared.reasons):
        for one in compared.reasons[label]:
            yield f"{label}: {one}"
    for what, labels in (
        ("only in a", compared.only_a),
        ("only in b", compared.only_b),
        ("differ as what is before them does", compared.follow),
        ("the same in both", compared.same),
    ):
        if labels:
            yield f"{what}: {', '.join(_in_order(labels))}"


def _in_order(labels: Iterable[str]) -> list[str]:
    return sorted(labels, key=lambda label: ALL_STAGES.index(label.partition("/")[0]))


def print_waterfall(manifests: Mapping[str, Manifest]) -> None:
    """Print the waterfall as a table."""
    rows = []
    for line in waterfall(manifests):
        about = "" if line.stage == "packing" else "~"
        rows.append(
            (
                f"{line.stage}/{line.source}" if line.what == "in" or line.stage == "packing" else "",
                line.what,
                f"{line.sign}{line.documents:,}",
                f"{line.sign}{size(line.bytes)}",
                f"{about}{line.sign}{count(line.tokens)}",
            )
        )
    tables.show(rows, ("stage", "what", "documents", "text", "tokens"), left=2, right=3)


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
