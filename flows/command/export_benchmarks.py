"""`olmo export benchmarks`: each benchmark's items as JSON lines, to be named as decontamination sets."""

from __future__ import annotations

import argparse

from flows.command import tables
from flows.command.usage import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "names", nargs="*", default=["core"], metavar="NAME", help="benchmarks or suites (default: core)"
    )
    parser.add_argument("--to", required=True, metavar="URI", help="folder, or s3://bucket/prefix")
    parser.add_argument(
        "--format", dest="template", choices=("catwalk", "in_loop"), default="catwalk", help="whose words"
    )
    parser.add_argument("--stand-in", action="store_true", help="the hand-made TruthfulQA where the file cannot be had")
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    from olmo_core.evaluation.benchmarks.definitions import SUITES, definition
    from olmo_core.evaluation.benchmarks.export import export
    from olmo_core.storage import Storage

    names = list(dict.fromkeys(one for name in arguments.names for one in SUITES.get(name, (name,))))
    if not names:
        raise UsageError("name benchmarks or suites")
    for name in names:
        definition(name, arguments.template)
    say = None if arguments.json else print
    written = export(names, arguments.to, format=arguments.template, stand_in=arguments.stand_in, progress=say)
    if arguments.json:
        tables.show_json(
            {"to": Storage(arguments.to).uri, "items": {name: count for name, (count, _) in written.items()}}
        )
        return 0
    tables.show([(f"{name}.jsonl", count) for name, (count, _) in written.items()], ("file", "items"))
    print("\nin a corpus recipe:\n  decontamination:\n    sets:")
    for name, (_, fields) in written.items():
        path = Storage(arguments.to).url(f"{name}.jsonl")
        print(
            f'      - {{name: {name}, kind: jsonl, paths: ["{path}"], fields: [{", ".join(fields)}], rules: [ngrams]}}'
        )
    return 0
