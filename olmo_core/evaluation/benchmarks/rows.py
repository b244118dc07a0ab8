"""Reading the rows of a benchmark's file: Arrow streams as `datasets` saves them, Parquet, JSON and JSON lines.

Also the finished requests of OLMES (`requests.jsonl.gz`), whose documents are taken out of them.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from olmo_core.errors import InputError
from olmo_core.evaluation.items import Row

_UNCONDITIONAL = 1_000_000
"""OLMES numbers the requests for its unconditional normalisation from here."""


def read_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The rows of a file, by the end of its name: .arrow, .parquet, .json, .jsonl, .jsonl.gz.

    InputError where the file is missing, cut, something else, or lacks one of `columns`.
    """
    try:
        rows = _read(path)
    except FileNotFoundError:
        raise InputError(f"benchmark file {path} is missing") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, EOFError, OSError, zlib.error, ValueError) as error:
        raise InputError(f"benchmark file {path} is cut or not what its name says: {error}") from None
    if not rows:
        raise InputError(f"benchmark file {path} has no rows: is it cut?")
    for number, row in enumerate(rows):
        lacking = [column for column in columns if column not in row]
        if lacking:
            raise InputError(
                f"benchmark file {path} is another one: row {number} lacks {', '.join(lacking)}; it has"
                f" {', '.join(row) or 'nothing'}"
            )
    return rows


def _read(path: Path) -> list[Row]:
    if path.suffix == ".arrow":
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
            return cast(list[Row], reader.read_all().to_pylist())
    if path.suffix == ".parquet":
        return cast(list[Row], pq.read_table(path).to_pylist())
    if path.suffix == ".json":
        return _mappings(json.loads(path.read_bytes()))
    if path.name.endswith((".jsonl", ".jsonl.gz")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = _mappings([json.loads(line) for line in data.split(b"\n") if line.strip()])
        return _documents(rows) if rows and {"request", "doc_id"} <= rows[0].keys() else rows
    raise ValueError("expected .arrow, .parquet, .json, .jsonl or .jsonl.gz")


def _mappings(found: Any) -> list[Row]:
    if not isinstance(found, list) or not all(isinstance(row, Mapping) for row in found):
        raise ValueError("expected objects, one a row")
    return found


def _documents(requests: Sequence[Row]) -> list[Row]:
    """The documents of OLMES requests, one each; BoolQ's have the finished context alone, which is taken apart."""
    rows: list[Row] = []
    for request in requests:
        if request["doc_id"] >= _UNCONDITIONAL or request.get("idx"):
            continue
        if request["doc_id"] != len(rows):
            raise ValueError(f"its document {len(rows)} is missing")
        document = dict(request["doc"])
        if request.get("task_name") == "boolq":
            passage, _, question = request["request"]["context"].removesuffix("?\nAnswer:").rpartition("\nQuestion: ")
            document |= {"passage": passage, "question": question, "label": 1 - request["label"]}
        rows.append(document)
    return rows
