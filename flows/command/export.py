"""`olmo export`: a corpus, or a checkpoint, in another tool's format; benchmarks as files."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from flows.command import choices, export_benchmarks, export_hf, tables
from flows.command.usage import UsageError, whole
from olmo_core.dolma_export.export import Exported, ExportProgress, export_dolma
from olmo_core.dolma_export.files import PARTS, ExportedFile, Part
from olmo_core.report.markdown import size
from olmo_core.workers import Workers

DESCRIPTION = """\
dolma: write a corpus as the Dolma toolkit's files: documents and attributes as JSON lines, the finished corpus, tokens as
memory maps with their tables. Run it again to go on after an interruption, or to bring an export up to date: files that
are there and right are not written again. docs/export.md says what becomes of what.

hf: write a checkpoint as a folder that transformers reads: safetensors, configuration, tokenizer. It is published only
when transformers, where it is installed, computes the same logits as we do. docs/model.md.

benchmarks: write each benchmark's items as JSON lines (id, question, choices), so that a corpus recipe can name them as
decontamination sets, and an evaluation's report tells clean items from dirty ones. docs/evaluation.md.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    formats = parser.add_subparsers(dest="format", required=True, metavar="FORMAT")
    dolma = formats.add_parser("dolma", help="the Dolma toolkit's JSON lines and memory maps")
    dolma.add_argument("corpus", metavar="CORPUS", help="name of the corpus; its newest run is exported")
    dolma.add_argument("--to", required=True, metavar="URI", help="empty folder, or s3://bucket/prefix")
    dolma.add_argument("--only", metavar="PARTS", help=f"some of {','.join(PARTS)} (default: all)")
    dolma.add_argument("--workers", type=whole(1), metavar="N", help="worker processes (default: one per core)")
    choices.add_store(dolma)
    export_hf.add_arguments(formats.add_parser("hf", help="a folder in Hugging Face's layout"))
    export_benchmarks.add_arguments(formats.add_parser("benchmarks", help="items as JSON lines, for decontamination"))


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    others = {"hf": export_hf.run, "benchmarks": export_benchmarks.run}
    return others.get(arguments.format, _dolma)(arguments)


def _dolma(arguments: argparse.Namespace) -> int:
    parts = _parts(arguments.only)
    count = arguments.workers if arguments.workers is not None else len(os.sched_getaffinity(0))
    store = choices.existing_store(arguments)
    with Workers(count) as workers:
        show = _show_progress if sys.stderr.isatty() and not arguments.json else None
        done = export_dolma(store, arguments.corpus, arguments.to, workers, parts=parts, progress=show)
    if arguments.json:
        tables.show_json(
            {
                "export": done.url,
                "written": len(done.written),
                "found": len(done.found),
                "removed": list(done.removed),
                "parts": {part: _counts(_of(done, part)) for part in parts},
                "seconds": round(done.seconds, 1),
            }
        )
        return 0
    _show(done, parts)
    return 0


def _parts(text: str | None) -> tuple[Part, ...]:
    wanted = [word.strip() for word in text.split(",") if word.strip()] if text is not None else list(PARTS)
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown or not wanted:
        raise UsageError(f"--only {text}: it is one or more of {', '.join(PARTS)}, with commas between")
    return tuple(part for part in PARTS if part in wanted)


def _of(done: Exported, part: str) -> list[ExportedFile]:
    return [one for one in (*done.written, *done.found) if one.part == part]


def _counts(files: Sequence[ExportedFile]) -> dict[str, int]:
    maps = [one for one in files if one.path.endswith(".npy")]
    return {
        "files": len(files),
        "lines": sum(one.rows for one in files) - sum(one.rows for one in maps),
        "tokens": sum(one.rows for one in maps),
        "bytes": sum(one.size for one in files),
    }


def _show_progress(done: ExportProgress) -> None:
    share = done.bytes_done / done.bytes_total if done.bytes_total else 1.0
    end = "\n" if done.jobs_done == done.jobs_total else ""
    text = f"\r{done.jobs_done:,} of {done.jobs_total:,} shards, {share:4.0%} of {size(done.bytes_total)} read"
    print(f"{text}, {done.seconds:.0f} s", end=end, file=sys.stderr, flush=True)


def _show(done: Exported, parts: Sequence[Part]) -> None:
    rows = []
    for part in parts:
        counts = _counts(_of(done, part))
        new = sum(one.part == part for one in done.written)
        rows.append((part, counts["files"], new, counts["lines"], counts["tokens"] or None, size(counts["bytes"])))
    tables.show(rows, ("part", "files", "written now", "lines", "tokens", "size"))
    for path in done.removed:
        print(f"removed {path}: no part of {done.corpus} any more")
    print(f"\nexport  {done.url}\n{done.seconds:.0f} s")
