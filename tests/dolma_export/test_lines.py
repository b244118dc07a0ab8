"""Lines of an export, piece by piece, against Python's own JSON, CSV, rounding and code points."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.dolma_export.attribute_lines import Offsets, attribute_lines, key, keys, left_out
from olmo_core.dolma_export.document_lines import document_lines
from olmo_core.dolma_export.json_columns import fields, quoted, row_ranges, scores
from olmo_core.dolma_export.tokens import _lines
from olmo_core.errors import IntegrityError, RecipeError

TEXT = st.text(max_size=20)
SPANS = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("score", pa.float32())]))
KINDED = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("kind", pa.string())]))


def strings(values: list[Any]) -> pa.Array:
    return pa.array(values, pa.large_string())


@settings(deadline=None, max_examples=60)
@given(st.lists(st.none() | TEXT), st.integers(0, 3))
def test_strings_are_quoted_as_orjson_does(values: list[str | None], skip: int) -> None:
    expected = [None if v is None else orjson.dumps(v).decode() for v in values]
    assert quoted(strings(values)).to_pylist() == expected
    assert quoted(strings(values).slice(skip)).to_pylist() == expected[skip:]


def test_every_character_is_quoted_as_orjson_does() -> None:
    every = "".join(chr(point) for point in range(0x3000) if not 0xD800 <= point < 0xE000) + "日\U0001f469\u200d\uffff"
    assert quoted(strings([every])).to_pylist() == [orjson.dumps(every).decode()]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.floats(0, 1), min_size=1))
def test_scores_are_floats_rounded_as_python_rounds(values: list[float | None]) -> None:
    for value, text in zip(values, scores(pa.array(values, pa.float64()), "x").to_pylist(), strict=True):
        if value is None:
            assert text is None
        else:
            assert float(text) == round(value, 5) and isinstance(json.loads(text), float)
            assert not text.startswith("-0.0") or float(text) < 0


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, 0, None], pa.int32()), ["1.0", "0.0", None]),
        (pa.array([True, False, None]), ["1.0", "0.0", None]),
        (pa.array([0.5, None, 100000.0], pa.float32()), ["0.5", None, "100000.0"]),
        (pa.array([0.000015, 2.5e-6, 1e300]), ["0.00002", "0.0", "1e+300"]),
    ],
)
def test_no_score_is_written_as_an_integer(column: pa.Array, expected: list[str | None]) -> None:
    assert scores(column, "x").to_pylist() == expected
    assert [None if v is None else round(float(v), 5) for v in column.to_pylist()] == [
        None if text is None else float(text) for text in expected
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_cannot_say_is_an_error(value: float) -> None:
    with pytest.raises(IntegrityError, match="o/k: column c: the value of row 1 is (nan|inf)"):
        scores(pa.array([0.0, value]), "o/k: column c")


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXT | st.text("aü日👩\u0301", max_size=300), max_size=6))
def test_bytes_become_code_points(texts: list[str]) -> None:
    offsets = Offsets(strings(texts))
    assert offsets.lengths.tolist() == [len(text) for text in texts]
    for row, text in enumerate(texts):
        places = [len(text[:n].encode()) for n in range(len(text) + 1)]
        rows = np.full(len(places), row)
        assert offsets.of(rows, np.array(places), "x").tolist() == list(range(len(text) + 1))


@pytest.mark.parametrize(("row", "place"), [(0, -1), (0, 2), (0, 5), (1, 1), (1, 4)])
def test_a_byte_within_a_character_or_outside_is_an_error(row: int, place: int) -> None:
    offsets = Offsets(strings(["aüb", "日"]))
    with pytest.raises(IntegrityError, match=f"pii: byte {place} of row {row} is outside its text or within"):
        offsets.of(np.array([row]), np.array([place]), "pii")


@st.composite
def tagged(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Documents with a row of attributes each; spans lie at character boundaries, in any order."""
    rows = []
    for n in range(draw(st.integers(0, 5))):
        text = draw(st.text('aé日👩\n"', min_size=1, max_size=80))
        spans = st.lists(st.tuples(*[st.integers(0, len(text))] * 2, st.floats(0, 1, width=32)), max_size=4)
        rows.append(
            {
                "id": f"{n}\n",
                "text": text,
                "source": "web",
                "number": draw(st.none() | st.integers(-5, 5)),
                "flag": draw(st.none() | st.booleans()),
                "reason": draw(st.none() | st.sampled_from(["too few", "x.y"])),
                "partner": draw(st.none() | TEXT),
                "lines": [(min(a, b), max(a, b), s) for a, b, s in draw(spans)],
                "marked": [(min(a, b), max(a, b), draw(st.sampled_from(["a", "b"]))) for a, b, _ in draw(spans)],
            }
        )
    return rows


def naive(row: dict[str, Any]) -> dict[str, Any]:
    """The line of a row, one Python object after the other."""
    whole = lambda score: [[0, len(row["text"]), score]]  # noqa: E731
    found: dict[str, Any] = {}
    if row["number"] is not None:
        found["selection__selection__number"] = whole(float(row["number"]))
    if row["flag"] is not None:
        found["selection__selection__flag"] = whole(float(row["flag"]))
    if row["reason"] is not None:
        found["selection__selection__reason__" + row["reason"].replace(" ", "_").replace(".", "_")] = whole(1.0)
    if row["lines"]:
        found["selection__selection__lines"] = [[a, b, round(s, 5)] for a, b, s in row["lines"]]
    if row["marked"]:
        found["selection__selection__marked"] = [[a, b, 1.0] for a, b, _ in row["marked"]]
    line = {"id": row["id"], "source": "web", "attributes": found}
    if row["partner"] is not None:
        line["values"] = {"selection__selection__partner": row["partner"]}
    return line


def tables(rows: list[dict[str, Any]]) -> tuple[pa.Table, pa.Table]:
    """Documents, and their attributes with spans in bytes."""

    def spans(name: str, third: str) -> list[list[dict[str, Any]]]:
        cut = lambda row, n: len(row["text"][:n].encode())  # noqa: E731
        return [[{"start": cut(r, a), "end": cut(r, b), third: c} for a, b, c in r[name]] for r in rows]

    documents = pa.table({name: strings([r[name] for r in rows]) for name in ("id", "source", "text")})
    return documents, pa.table(
        {
            "number": pa.array([r["number"] for r in rows], pa.int64()),
            "flag": pa.array([r["flag"] for r in rows], pa.bool_()),
            "reason": pa.array([r["reason"] for r in rows], pa.string()),
            "partner": pa.array([r["partner"] for r in rows], pa.string()),
            "lines": pa.array(spans("lines", "score"), SPANS),
            "marked": pa.array(spans("marked", "kind"), KINDED),
        }
    )


@settings(deadline=None, max_examples=60)
@given(tagged(), st.integers(0, 2))
def test_attributes_are_those_of_plain_python(rows: list[dict[str, Any]], skip: int) -> None:
    documents, tags = tables(rows)
    lines = attribute_lines("selection", documents.slice(skip), tags.slice(skip), "x").to_pylist()
    assert [json.loads(line) for line in lines] == [naive(row) for row in rows[skip:]]
    assert all(line.endswith("}\n") and line.count("\n") == 1 for line in lines)
    assert not re.search(r"\[\d+,\d+,-?\d+\]", "".join(lines)), "every score has a point: the toolkit's failure A"


def test_kinds_of_personal_data_have_keys_of_their_own() -> None:
    documents, _ = tables([naive_row("ü a@b.co 1.2.3.4")])
    spans = [{"start": 3, "end": 9, "kind": "email"}, {"start": 10, "end": 17, "kind": "ip"}]
    (line,) = attribute_lines("pii", documents, pa.table({"pii_spans": pa.array([spans], KINDED)}), "x").to_pylist()
    assert json.loads(line)["attributes"] == {
        "pii__pii__pii_spans__email": [[2, 8, 1.0]],
        "pii__pii__pii_spans__ip": [[9, 16, 1.0]],
    }
    spans[0]["kind"] = "passport"
    with pytest.raises(IntegrityError, match=r"x: column pii_spans has spans of kinds \['passport'\], and only email"):
        attribute_lines("pii", documents, pa.table({"pii_spans": pa.array([spans], KINDED)}), "x")


def naive_row(text: str) -> dict[str, Any]:
    return {"id": "a", "source": "web", "text": text, **dict.fromkeys(("number", "flag", "reason", "partner")), "lines": [], "marked": []}  # fmt: skip


def test_names_are_the_toolkits_and_no_two_fall_together() -> None:
    assert key("near-duplicates", "fails_gopher: 2-gram") == "near_duplicates__near_duplicates__fails_gopher__2_gram"
    schema = pa.schema([("a b", pa.int64()), ("bands", pa.list_(pa.uint64())), ("text_hash", pa.binary(16))])
    assert keys("s", schema) == {"a b": "s__s__a_b"} and left_out(schema) == ["bands", "text_hash"]
    with pytest.raises(RecipeError, match="columns 'a b' and 'a.b' would both be the attribute 's__s__a_b'"):
        keys("s", schema.append(pa.field("a.b", pa.bool_())))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(TEXT, TEXT, st.none() | TEXT, st.none() | TEXT)))
def test_documents_are_what_json_says(rows: list[tuple[str, str, str | None, str | None]]) -> None:
    metadata = [json.dumps({"n": i, "s": row[0]}, ensure_ascii=False) for i, row in enumerate(rows)]
    table = pa.table(
        {
            "id": strings([r[0] for r in rows]),
            "text": strings([r[1] for r in rows]),
            "source": strings(["web"] * len(rows)),
            "added": strings([r[2] for r in rows]),
            "created": strings([r[3] for r in rows]),
            "metadata": strings(metadata),
        }
    )
    for line, row, held in zip(document_lines(table).to_pylist(), rows, metadata, strict=True):
        expected = {"id": row[0], "text": row[1], "source": "web", "added": row[2], "created": row[3]}
        expected = {name: value for name, value in expected.items() if value is not None}
        assert json.loads(line) == {**expected, "metadata": json.loads(held)} and line.endswith(held + "}\n")


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.text("ab,\"'\r\n ü;", max_size=6), st.integers(0, 9), st.integers(1, 99)), min_size=1))
def test_tables_are_as_csv_writer_writes_them(rows: list[tuple[str, int, int]]) -> None:
    index = pa.table(
        {
            "start": [r[1] for r in rows],
            "length": [r[2] for r in rows],
            "shard": [f"web/{r[1]}" for r in rows],
            "row": [r[1] for r in rows],
        }
    )
    expected = io.StringIO(newline="")
    for identifier, n, length in rows:
        csv.writer(expected).writerow([n, n + length, identifier, f"corpus/documents/web/{n}.jsonl.gz", n + 1])
    assert "".join(_lines(index, strings([r[0] for r in rows])).to_pylist()) == expected.getvalue()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 10)), st.integers(1, 20))
def test_batches_are_bounded_and_whole(sizes: list[int], most: int) -> None:
    ranges = list(row_ranges(np.array(sizes, np.int64), most))
    assert [n for first, last in ranges for n in range(first, last)] == list(range(len(sizes)))
    assert all(sum(sizes[first:last]) <= most or last - first == 1 for first, last in ranges)


def test_objects_without_fields_are_empty_objects() -> None:
    assert fields(2).to_pylist() == ["{}", "{}"]
    assert fields(2, strings([None, ',"a":1'])).to_pylist() == ["{}", '{"a":1}']
