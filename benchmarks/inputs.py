"""The input of the benchmark: real prose and code that this Python installation carries, as JSON lines and Parquet.

The same documents for every system, in an order given by a hash of their ids, so that the first part of them is a sample
of the whole: peers that are too slow for all of it get that part, and so does what they are compared with.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.documents.environment import EnvironmentSource
from olmo_core.documents.reader import read_documents, scan
from olmo_core.documents.shards import text_sizes

LONGEST = 200_000
"""Bytes; longer documents are left out, so that no single one decides what the small input measures."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One set of documents on disk."""

    name: str
    """`full`, or `small` for its first part."""
    path: Path
    """JSON lines; the same rows lie beside it as `.parquet`, and nothing else: readers take folders."""
    documents: int
    text_bytes: int
    sha256: str
    """Of the JSON lines."""


def write_inputs(folder: Path, full_bytes: int, small_bytes: int) -> dict[str, Input]:
    """Write `full` (half prose, half code, as far as there is so much) and `small`; return them by name."""
    rows = []
    for part in ("prose", "code"):
        rows += _documents(
            EnvironmentSource(name=part, part="prose" if part == "prose" else "code", max_bytes=2 * full_bytes),
            full_bytes // 2,
        )
    rows.sort(key=lambda row: hashlib.sha256(row["id"].encode()).digest())
    ends = accumulate(len(row["text"].encode()) for row in rows)
    small = rows[: 1 + sum(end < small_bytes for end in ends)]
    return {name: _write(folder, name, some) for name, some in (("full", rows), ("small", small))}


def sum_bytes(rows: list[dict[str, str]]) -> int:
    """Bytes of text."""
    return sum(len(row["text"].encode()) for row in rows)


def _documents(source: EnvironmentSource, most: int) -> list[dict[str, str]]:
    files = sorted(scan(source), key=lambda file: hashlib.sha256(file.name.encode()).digest())
    rows: list[dict[str, str]] = []
    total = 0
    for batch in read_documents(source, files):
        for row, size in zip(
            batch.documents.select(["id", "text", "source"]).to_pylist(), text_sizes(batch.documents).tolist()
        ):
            if size <= LONGEST and total + size <= most:
                rows.append({**row, "id": f"{source.name}/{row['id']}"})
                total += size
    return rows


def _write(folder: Path, name: str, rows: list[dict[str, str]]) -> Input:
    path = folder / name / "documents.jsonl"
    path.parent.mkdir(parents=True)
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(data)
    schema = pa.schema([("id", pa.string()), ("text", pa.large_string()), ("source", pa.string())])
    pq.write_table(pa.Table.from_pylist(rows, schema), path.with_suffix(".parquet"), compression="zstd")
    return Input(
        name=name, path=path, documents=len(rows), text_bytes=sum_bytes(rows), sha256=hashlib.sha256(data).hexdigest()
    )
