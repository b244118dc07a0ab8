"""Reading benchmark files: every form, and every way in which one can be wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core.errors import InputError
from olmo_core.evaluation.benchmarks.rows import read_rows

Rows = list[dict[str, Any]]
ROWS: Rows = [
    {"question": f"Quéstion {n}?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answer": n} for n in range(50)
]
COLUMNS = ("question", "choices", "answer")


def arrow(path: Path, rows: Rows) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=20)


def parquet(path: Path, rows: Rows) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


def lines(rows: Rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


FORMS: dict[str, Callable[[Path, Rows], object]] = {
    "x.arrow": arrow,
    "x.parquet": parquet,
    "x.json": lambda path, rows: path.write_text(json.dumps(rows)),
    "x.jsonl": lambda path, rows: path.write_bytes(lines(rows)),
    "x.jsonl.gz": lambda path, rows: path.write_bytes(gzip.compress(lines(rows))),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(name: str, tmp_path: Path) -> None:
    FORMS[name](tmp_path / name, ROWS)
    assert read_rows(tmp_path / name, COLUMNS) == ROWS


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_cut_file_is_an_error(name: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / name
    FORMS[name](path, ROWS)
    body = path.read_bytes()
    path.write_bytes(body[: int(share * len(body))])
    with pytest.raises(InputError, match="cut"):
        read_rows(path, COLUMNS)


@pytest.mark.parametrize("name", FORMS)
def test_something_else_under_the_name_is_an_error(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"<html>\n<body>sign in</body></html>\n" * 40)
    with pytest.raises(InputError, match=f"{name} is cut or not what its name says"):
        read_rows(tmp_path / name, COLUMNS)


@pytest.mark.parametrize("name", FORMS)
def test_other_columns_are_an_error_that_names_them(name: str, tmp_path: Path) -> None:
    FORMS[name](tmp_path / name, [{"question": "q", "label": 1}])
    with pytest.raises(InputError, match="is another one: row 0 lacks choices, answer; it has question, label"):
        read_rows(tmp_path / name, COLUMNS)


def test_missing_and_unknown(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="x.arrow is missing"):
        read_rows(tmp_path / "x.arrow", COLUMNS)
    (tmp_path / "x.csv").write_text("a,b\n")
    with pytest.raises(InputError, match="expected .arrow, .parquet"):
        read_rows(tmp_path / "x.csv", COLUMNS)
    for body in ("{}", "[1, 2]", "3"):
        (tmp_path / "x.json").write_text(body)
        with pytest.raises(InputError, match="expected objects, one a row"):
            read_rows(tmp_path / "x.json", COLUMNS)


def request(doc_id: int, idx: int, doc: dict[str, Any], context: str = "", label: int = 0) -> dict[str, Any]:
    return {"doc_id": doc_id, "idx": idx, "doc": doc, "label": label, "request": {"context": context}}


def test_documents_of_finished_requests(tmp_path: Path) -> None:
    """One of each document; unconditional requests, numbered from a million, are none."""
    requests = [
        request(number + extra, idx, {"question": str(number), "answer": "1"})
        for extra in (0, 1_000_000)
        for number in range(3)
        for idx in range(2)
    ]
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines(requests))
    assert [row["question"] for row in read_rows(path, ("question", "answer"))] == ["0", "1", "2"]
    path.write_bytes(lines(requests[:2] + requests[4:]))
    with pytest.raises(InputError, match="its document 1 is missing"):
        read_rows(path, ("question",))


def test_boolq_is_taken_out_of_its_context(tmp_path: Path) -> None:
    context = "Title -- A passage.\nQuestion: asks one?\nQuestion: is it so?\nAnswer:"
    path = tmp_path / "x.jsonl"
    path.write_bytes(lines([{**request(0, 0, {"gold": 1}, context, label=1), "task_name": "boolq"}]))
    (row,) = read_rows(path, ("passage", "question", "label"))
    assert (row["passage"], row["question"]) == ("Title -- A passage.\nQuestion: asks one?", "is it so")
    assert row["label"] == 0  # the requests' first choice is yes
