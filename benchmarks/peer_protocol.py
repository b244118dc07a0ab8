"""How a measured process runs: one stage of one system over one input, a line of JSON at the end.

Standard library only, and written for any Python from 3.10 on: it also runs inside the environments of the peers.
Imports, models, a first call on eight documents (which loads or compiles code) and the conversion of the input to what
the library takes are not timed. What is timed is one pass over all documents, from texts in memory to results in memory.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

WARM_UP_DOCUMENTS = 8

Row = dict[str, Any]
"""A document: what goes in (`id`, `text`), or what came out, in names all systems share (`benchmarks/compare.py`)."""


class Bench(NamedTuple):
    """One stage of one system, ready to run."""

    what: str
    """The call that is timed, in words."""
    prepare: Callable[[list[Row]], Any]
    """Documents to the library's own objects; not timed."""
    work: Callable[[Any], Any]
    """What is timed."""
    rows: Callable[[Any, list[Row]], list[Row]]
    """Result and documents to comparable rows; not timed, only called when they are asked for."""


Maker = Callable[[argparse.Namespace], Bench]


def digest(data: bytes) -> str:
    """The sha256 of bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def token_row(ids: Any) -> Row:
    """The common row of a tokenized document: how many ids, and their digest as little-endian uint16."""
    import numpy as np

    array = np.asarray(ids, "<u2")
    return {"token_count": len(array), "token_ids": digest(array.tobytes())}


def read_jsonl(path: str) -> list[Row]:
    """All documents of the input."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return `(result, CPU seconds, wall seconds)`; CPU time is that of all threads of this process."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.process_time() - cpu, time.perf_counter() - wall


def options_parser() -> argparse.ArgumentParser:
    """The options of every measured process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", required=True)
    parser.add_argument(
        "--input", required=True, help="JSON lines with id, text and source; input.parquet lies beside it"
    )
    parser.add_argument("--scratch", required=True, help="an empty folder for what is written")
    parser.add_argument("--outputs", help="where to write the comparable rows")
    parser.add_argument("--language-model", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--naughty-words", required=True)
    return parser


def main(makers: Mapping[str, Maker], packages: tuple[str, ...]) -> None:
    """Run one stage; the last line of standard output is the result, whatever libraries print before it."""
    options = options_parser().parse_args()
    documents = read_jsonl(options.input)
    began = time.perf_counter()
    bench = makers[options.stage](options)
    first = [{**one, "text": one["text"] + " "} for one in documents[:WARM_UP_DOCUMENTS]]
    bench.work(bench.prepare(first))
    ready = time.perf_counter() - began
    prepared = bench.prepare(documents)
    cold = drop_from_cache(options.input)
    result, cpu, wall = timed(lambda: bench.work(prepared))
    if options.outputs:
        rows = bench.rows(result, documents)
        with Path(options.outputs).open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row) + "\n" for row in rows)
    report(options, packages, bench.what, documents, cpu=cpu, wall=wall, ready=ready, cold_input=cold)


def drop_from_cache(path: str) -> bool:
    """Ask the system to forget the pages of the input files, as far as that goes without being root; say whether it could.

    Pages that were never written to the disk cannot be forgotten, so they are written first. What a hypervisor or the
    disk itself holds stays.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    for one in (path, os.path.splitext(path)[0] + ".parquet"):
        if os.path.exists(one):
            with open(one, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def peak_memory() -> int | None:
    """Largest resident size of this program in bytes; None where /proc does not tell (getrusage counts the parent's too)."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def report(
    options: argparse.Namespace, packages: tuple[str, ...], what: str, documents: list[Row], **seconds: Any
) -> None:
    """Print the result as one line of JSON."""
    result = {
        "stage": options.stage,
        "what": what,
        "documents": len(documents),
        "bytes": sum(len(one["text"].encode()) for one in documents),
        **seconds,
        "peak_memory_bytes": peak_memory(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in packages}},
    }
    sys.stdout.flush()
    sys.__stdout__.write("\n" + json.dumps(result) + "\n")  # type: ignore[union-attr]
