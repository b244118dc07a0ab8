"""Evaluation files as items: formats, ids, and what is wrong with a file said with its line."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from olmo_core.curation.evaluation_sets import EvaluationSet, Item, list_set, read_items
from olmo_core.documents.files import hash_file
from olmo_core.errors import InputError, RecipeError


def items(one: EvaluationSet) -> list[Item]:
    files = list_set(one)
    return list(read_items(one, files, {f.name: (f.size, hash_file(f)) for f in files}))


def one_set(folder: Path, **changes: Any) -> EvaluationSet:
    return EvaluationSet(
        **{"name": "quiz", "kind": "jsonl", "paths": (f"{folder}/**",), "root": str(folder), **changes}
    )


def write(path: Path, *records: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in records).encode()
    pack = {".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress, ".bz2": bz2.compress}.get(path.suffix)
    path.write_bytes(pack(data) if pack else data)
    return path


QUIZ = {
    "id": 7,
    "question": "Which is it?",
    "choices": {"text": ["this", "that", None, 4], "label": ["A", "B", "C", "D"]},
    "answer": "A",
}


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".bz2"])
def test_fields_are_joined_in_their_order(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"test.jsonl{suffix}", QUIZ, "", {**QUIZ, "id": "eight"})
    found = items(one_set(tmp_path, fields=("question", "choices.text")))
    name = f"test.jsonl{suffix}"
    text = "Which is it?\nthis\nthat\n4"
    assert found == [Item(f"{name}:7", name, "7", text), Item(f"{name}:eight", name, "eight", text)]


def test_ids_are_unique_whatever_the_records_call_themselves(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"id": "x", "text": "1"}, {"id": "x", "text": "2"}, {"text": "3"})
    write(tmp_path / "b.jsonl", {"id": "x", "text": "4"})
    assert [i.id for i in items(one_set(tmp_path))] == ["a.jsonl:x", "a.jsonl:x#2", "a.jsonl:3", "b.jsonl:x"]
    assert [i.id for i in items(one_set(tmp_path, id_field=None))] == [
        "a.jsonl:1",
        "a.jsonl:2",
        "a.jsonl:3",
        "b.jsonl:1",
    ]


def test_a_folder_as_palomas(tmp_path: Path) -> None:
    for source, domain in (("c4", "en"), ("m2d2", "physics"), ("m2d2", "art")):
        write(tmp_path / source / f"{domain}.jsonl.gz", {"id": "0", "text": f"about {domain}", "subdomain": domain})
    found = items(one_set(tmp_path, kind="dolma-jsonl", paths=(f"{tmp_path}/*/*.jsonl.gz",)))
    assert [(i.id, i.text) for i in found] == [
        ("c4/en.jsonl.gz:0", "about en"),
        ("m2d2/art.jsonl.gz:0", "about art"),
        ("m2d2/physics.jsonl.gz:0", "about physics"),
    ]


def test_plain_text_in_blocks_or_as_one(tmp_path: Path) -> None:
    write(tmp_path / "t.txt", "", " = A title = ", " \t", "First line\r", "second.", "", "", "Last")
    blocks = items(one_set(tmp_path, kind="text"))
    assert [(i.id, i.text) for i in blocks] == [
        ("t.txt:2", " = A title = "),
        ("t.txt:4", "First line\r\nsecond."),
        ("t.txt:8", "Last"),
    ]
    (whole,) = items(one_set(tmp_path, kind="text", items="files"))
    assert whole.id == "t.txt" and whole.text.count("\n") == 8


def test_a_record_without_text_is_an_item_too(tmp_path: Path) -> None:
    write(tmp_path / "t.jsonl", {"id": "a", "text": None}, {"id": "b", "text": ""}, {"id": "c", "text": []})
    assert [i.text for i in items(one_set(tmp_path))] == ["", "", ""]


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ('{"text": "cut', {}, "line 2 .evaluation set quiz.: not JSON"),
    ("[1, 2]", {}, "line 2 .*: a JSON list; expected an object"),
    ('{"question": "?"}', {}, "there is no field 'text'; there is: question; correct `fields`"),
    ('{"text": {"a": 1}}', {}, "field 'text' is an object with a; name one of these behind a dot"),
    ('{"text": "a"}', {"fields": ("text.more",)}, "there is no field 'text.more'; there is: a str"),
    ('{"id": 1.5, "text": "a"}', {}, "'id' is 1.5, neither text nor an integer; set id_field: null"),
    ('{"id": true, "text": "a"}', {}, "'id' is True"),
]


@pytest.mark.parametrize(("line", "changes", "message"), WRONG)
def test_what_is_wrong_is_said_with_file_and_line(
    tmp_path: Path, line: str, changes: dict[str, Any], message: str
) -> None:
    good = {"id": "fine", "text": {"more": "good"}} if changes else {"id": "fine", "text": "good"}
    write(tmp_path / "t.jsonl", good, line)
    with pytest.raises(InputError, match=message):
        items(one_set(tmp_path, **changes))


def test_files_that_are_missing_cut_or_changed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="matches no file"):
        list_set(one_set(tmp_path, paths=(f"{tmp_path}/*.jsonl",)))
    with pytest.raises(RecipeError, match="paths is empty"):
        list_set(one_set(tmp_path, paths=()))
    path = write(tmp_path / "t.jsonl.gz", *({"text": f"{k} and more"} for k in range(500)))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="truncated"):
        items(one_set(tmp_path))
    path.unlink()
    (tmp_path / "t.txt").write_bytes(b"fine\nnot \xff fine")
    with pytest.raises(InputError, match="line 2: byte 4 is not UTF-8"):
        items(one_set(tmp_path, kind="text"))
    one = one_set(tmp_path, kind="text")
    (tmp_path / "t.txt").write_bytes(b"fine")
    files = list_set(one)
    with pytest.raises(InputError, match="changed: the inventory says 4 bytes"):
        list(read_items(one, files, {"t.txt": (4, "0" * 64)}))
