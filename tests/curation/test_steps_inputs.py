"""Inventory and documents: bad input of every kind is named and publishes nothing, or is set aside and counted.

In a folder, and with input and store on a real S3 server.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import re
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from olmo_core import storage_s3
from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.content import ContentRecipe
from olmo_core.curation.corpus_recipe import CorpusRecipe, SourceRecipe
from olmo_core.curation.layout import document_objects
from olmo_core.curation.steps import inputs
from olmo_core.curation.steps.inputs import Inventory, documents_step, remember, take_inventory
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.documents.parquet import ParquetSource
from olmo_core.documents.plain_text import TextSource
from olmo_core.documents.reader import Source
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError, QuarantineError
from olmo_core.storage import Storage
from olmo_core.workers import Workers
from tests.artifacts.places import open_store
from tests.small_corpus import passages, record, write_jsonl

GOOD = [record(f"g{i}", text) for i, text in enumerate(passages(300)[:40])]


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.s3)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return open_store(request, tmp_path)


@pytest.fixture
def in_a_folder(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


def beside(store: ArtifactStore, source: Source) -> Source:
    """Return the source as it is where the store is: on S3 its files are put into the store's bucket."""
    if "://" not in store.uri:
        return source
    bucket = Storage(store.uri.rpartition("/")[0] + "/in")
    for file in Path(source.paths[0]).parent.iterdir():
        bucket.put(file.name, file.read_bytes())
    return dataclasses.replace(source, paths=tuple(f"{bucket.uri}/{Path(path).name}" for path in source.paths))


def recipe_of(source: Source, **fields: Any) -> CorpusRecipe:
    return CorpusRecipe(name="x", sources=(SourceRecipe(read=source),), content=ContentRecipe(kind="lexicon"), **fields)


def read_in(store: ArtifactStore, workers: Workers, source: Source, **fields: Any) -> Built:
    """Build inventory and documents of a source."""
    source = beside(store, source)
    inventory = take_inventory(store, source)
    build(store, inventory.step, workers)
    return build(store, documents_step(recipe_of(source, **fields), source, inventory), workers)


def rows(store: ArtifactStore, built: Built) -> list[dict[str, Any]]:
    objects = document_objects(built.manifest)
    return pa.concat_tables([read_shard(store.storage, o.path) for o in objects]).to_pylist()  # type: ignore[no-any-return]


def quarantine(store: ArtifactStore, built: Built) -> list[dict[str, Any]]:
    objects = [o for o in built.manifest.objects if o.meta.get("role") == "quarantine"]
    return [row for o in objects for row in read_shard(store.storage, o.path).to_pylist()]


def assert_nothing_published(store: ArtifactStore) -> None:
    """No documents manifest, no sidecar, every file complete inside an attempt's folder, and nothing half sent."""
    assert list(store.finished("documents")) == []
    if "://" in store.uri:
        bucket = store.uri.removeprefix("s3://").partition("/")[0]
        assert "Uploads" not in storage_s3.client().list_multipart_uploads(Bucket=bucket)
        paths = [Path(one.path) for one in store.storage.walk("documents")]
    else:
        paths = [path for path in Path(store.uri, "documents").rglob("*") if path.is_file()]
    for path in paths:
        assert any(part.startswith("attempt-") for part in path.parts), path
        assert not path.name.startswith(".tmp-") and not path.name.endswith(".done.json"), path


def parquet_bytes(records: list[dict[str, Any]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": [r["id"] for r in records], "text": [r["text"] for r in records]}), sink)
    return bytes(sink.getvalue())


def lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(r).encode() + b"\n" for r in records)


DAMAGED = {
    "cut.jsonl.gz": gzip.compress(lines(GOOD))[:-200],
    "cut.jsonl.zst": zstandard.ZstdCompressor().compress(lines(GOOD))[:-200],
    "cut.parquet": parquet_bytes(GOOD)[:-200],
    "flipped.jsonl.gz": bytes(b ^ (i == 900) for i, b in enumerate(gzip.compress(lines(GOOD)))),
    "plain.jsonl.gz": lines(GOOD),
    "nothing.jsonl.zst": b"",
}


@pytest.mark.parametrize("name", sorted(DAMAGED))
def test_a_damaged_file_is_named_and_nothing_is_published(
    store: ArtifactStore, workers: Workers, tmp_path: Path, name: str
) -> None:
    """A healthy file of the same shard was read and written before: its object may not be visible."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(DAMAGED[name])
    if name.endswith(".parquet"):
        (tmp_path / "in" / "a.parquet").write_bytes(parquet_bytes(GOOD))
        source: Source = ParquetSource(name="s", paths=(f"{tmp_path}/in/*",))
    else:
        write_jsonl(tmp_path / "in" / "a.jsonl", GOOD)
        source = DolmaJsonlSource(name="s", paths=(f"{tmp_path}/in/*",))
    with pytest.raises(InputError, match=f"{name}.*[Gg]et (the file|it) again|correct its name"):
        read_in(store, workers, source, shard_bytes=1 << 20)
    assert_nothing_published(store)


def test_parts_written_before_the_damage_stay_invisible(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    """Documents are gathered 32 MB at a time: here the first batch is in the store when the file turns out to be cut."""
    big = [record(f"big-{i}", passages()[i] * 4000) for i in range(6)]
    path = write_jsonl(tmp_path / "in" / "cut.jsonl.zst", big)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="cut.jsonl.zst: zstd data is truncated"):
        read_in(store, workers, DolmaJsonlSource(name="s", paths=(str(path),)), shard_bytes=1 << 20)
    assert any(f.path.endswith(".000.parquet") for f in store.storage.walk("documents")), (
        "the case is what it should be"
    )
    assert_nothing_published(store)


BROKEN = {
    "broken_json": [b'{"id": "cut", "text": "no end', b'{"id": "raw NUL", "text": "a\0b"}'],
    "not_an_object": [b'["a list"]'],
    "wrong_type": [b'{"id": 17, "text": "an integer id"}', b'{"id": "n", "text": 5}'],
    "missing_text": [b'{"id": "no text"}', b'{"id": "null", "text": null}'],
    "empty_text": [b'{"id": "empty", "text": ""}', b'{"id": "white", "text": " \\n\\t "}'],
    "invalid_utf8": [b'{"id": "latin-1", "text": "caf\xe9"}', b'{"id": "half", "text": "\\ud800"}'],
    "duplicate_id": [lines(GOOD[:1]).strip()],
}


def test_malformed_records_are_set_aside_below_the_limit_only(
    store: ArtifactStore, workers: Workers, tmp_path: Path
) -> None:
    bad = [line for group in BROKEN.values() for line in group]
    path = write_jsonl(tmp_path / "in" / "mixed.jsonl", GOOD, bad)
    source = DolmaJsonlSource(name="s", paths=(str(path),))
    with pytest.raises(
        QuarantineError,
        match=f"documents/s: {len(bad)} of {40 + len(bad)} records were quarantined .broken_json 2, duplicate_id 1, .*raise",
    ):
        read_in(store, workers, source, quarantine_limit=len(bad) / (40 + len(bad)) - 1e-6)
    assert list(store.finished("documents")) == []
    built = read_in(store, workers, source, quarantine_limit=len(bad) / (40 + len(bad)))
    assert built.shards_reused == 1, "the limit decides nothing about the rows: the finished shard is taken over"
    ledger = built.manifest.ledger
    assert {k: v.documents for k, v in ledger.quarantined.items()} == {k: len(v) for k, v in BROKEN.items()}
    assert {k: v.bytes for k, v in ledger.quarantined.items()} == {k: sum(map(len, v)) for k, v in BROKEN.items()}
    assert (ledger.read.documents, ledger.kept.documents) == (40 + len(bad), 40)
    assert [r["id"] for r in rows(store, built)] == [r["id"] for r in GOOD]
    found = quarantine(store, built)
    assert [r["raw"] for r in found] == bad and [r["position"] for r in found] == list(range(41, 41 + len(bad)))
    assert {r["file"] for r in found} == {"mixed.jsonl"} and all(r["detail"] for r in found)
    assert Counter(r["reason"] for r in found) == {k: len(v) for k, v in BROKEN.items()}
    data = path.read_bytes()
    assert all(data[r["byte_offset"] :].startswith(r["raw"]) for r in found)


def test_too_many_malformed_records_are_told_with_their_files(
    store: ArtifactStore, workers: Workers, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(40):
        bad = n in (3, 8, 20, 21, 39)
        (folder / f"{n:02d}.txt").write_text(f"Café number {n}, a text.", encoding="latin-1" if bad else "utf-8")
    source = TextSource(name="letters", paths=(f"{folder}/*.txt",))
    with pytest.raises(QuarantineError) as raised:
        read_in(store, workers, source)
    said = str(raised.value)
    assert "documents/letters: 5 of 40 records were quarantined (invalid_utf8 5)" in said
    named = (
        r"They are in 03\.txt, record 1: invalid_utf8 \(byte 3 is not UTF-8 [^)]*\)[^)]*\); 08\.txt, record 1: invalid_utf8; "
        r"20\.txt, record 1: invalid_utf8; and 2 more files\. The records are in "
    )
    assert re.search(named, said), said
    pattern = re.search(r"The records are in (\S+) in the store", said)
    assert pattern and any(fnmatch(path.path, pattern[1]) for path in store.storage.walk("documents"))
    read_in(store, workers, source, quarantine_limit=0.2)
    with pytest.raises(QuarantineError, match="built earlier: 5 of 40 .*They are in 03.txt.*; and 2 more files"):
        read_in(store, workers, source)


def test_many_malformed_records_are_written_in_parts(
    in_a_folder: ArtifactStore, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three batches of 32 MB, each with more malformed records than are held."""
    bad = [b"no JSON " + b"x" * 3_000] * 30_000
    path = write_jsonl(tmp_path / "in" / "bad.jsonl", GOOD, bad)
    source = DolmaJsonlSource(name="s", paths=(str(path),))
    built = in_this_process(in_a_folder, source, monkeypatch, quarantine_limit=1.0)
    keys = [o.key.split(".", 1)[1] for o in built.manifest.objects]
    assert keys[0] == "000" and keys[1:] == [f"quarantine.{i:03d}" for i in range(len(keys) - 1)] and len(keys) > 2
    assert [r["position"] for r in quarantine(in_a_folder, built)] == list(range(41, 41 + len(bad)))
    assert built.manifest.ledger.quarantined["broken_json"].documents == len(bad)


def test_a_file_that_is_something_else_is_given_up_early(
    in_a_folder: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "in" / "bad.jsonl", GOOD, [b"2024,text,more"] * 200_000)
    source = DolmaJsonlSource(name="s", paths=(str(path),))
    with pytest.raises(
        QuarantineError, match=r"of the first \d\d,\d\d\d records cannot be read.*bad.jsonl, record .*broken_json"
    ):
        in_this_process(in_a_folder, source, monkeypatch)
    assert_nothing_published(in_a_folder)


def in_this_process(store: ArtifactStore, source: Source, patch: pytest.MonkeyPatch, **fields: Any) -> Built:
    """Build documents without worker processes, holding 20 MB of malformed records."""
    patch.setattr(inputs, "QUARANTINE_BYTES", 20 << 20)

    class Here(Workers):
        def map(self, function: Any, jobs: Any, name: Any, *, first_alone: bool = False) -> Any:
            return ((job, function(job)) for job in jobs)

    return read_in(store, Here(1), source, **fields)


def test_nul_bytes_and_odd_text_are_kept(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    odd = [
        record("nul", "a\0b\0"),
        record("bom", "\ufeffa"),
        record("separators", "a\u2028b\x85c\r\n"),
        record("long", "x" * 100_000),
    ]
    path = write_jsonl(tmp_path / "in" / "odd.jsonl", odd)
    built = read_in(store, workers, DolmaJsonlSource(name="s", paths=(str(path),)), shard_bytes=50_000)
    assert [(r["id"], r["text"]) for r in rows(store, built)] == [(r["id"], r["text"]) for r in odd]
    assert [o.rows for o in document_objects(built.manifest)] == [3, 1], (
        "a document over the shard size is a shard of its own"
    )


def test_an_empty_file_is_a_shard_without_rows(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "empty.jsonl", [])
    write_jsonl(tmp_path / "in" / "full.jsonl", GOOD)
    source = DolmaJsonlSource(name="s", paths=(f"{tmp_path}/in/*",))
    built = read_in(store, workers, source, shard_bytes=1)
    assert sorted(shard.ledger.kept.documents for shard in built.manifest.shards) == [0, 40]
    assert sorted(o.rows for o in built.manifest.objects)[0] == 0


def test_a_source_without_any_document_is_an_error(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "in" / "empty.jsonl", [])
    with pytest.raises(InputError, match="there is no document in 1 files: they are empty"):
        read_in(store, workers, DolmaJsonlSource(name="s", paths=(str(path),)))
    assert list(store.finished("documents")) == []


def test_a_glob_without_a_match_is_an_error(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", GOOD)
    with pytest.raises(InputError, match=r"in/\*.gz matches no file; .* holds a.jsonl"):
        read_in(store, workers, DolmaJsonlSource(name="s", paths=(f"{tmp_path}/in/*.gz",)))
    assert list(store.storage.walk("")) == []


def test_an_id_in_two_shards_is_an_error(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "in" / "a.jsonl", GOOD)
    write_jsonl(tmp_path / "in" / "b.jsonl", [record("other", "text"), GOOD[7]])
    source = DolmaJsonlSource(name="s", paths=(f"{tmp_path}/in/*",))
    with pytest.raises(InputError, match="ids occur in more than one file: 'g7' .*make them two sources"):
        read_in(store, workers, source, shard_bytes=1)
    assert list(store.finished("documents")) == []
    built = read_in(store, workers, source, shard_bytes=1 << 20, quarantine_limit=0.05)
    assert {k: v.documents for k, v in built.manifest.ledger.quarantined.items()} == {"duplicate_id": 1}


def test_a_file_that_changed_since_the_inventory_is_an_error(
    store: ArtifactStore, workers: Workers, tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "in" / "a.jsonl", GOOD)
    local = DolmaJsonlSource(name="s", paths=(str(path),))
    source = beside(store, local)
    inventory = take_inventory(store, source)
    build(store, inventory.step, workers)
    path.write_text(path.read_text().replace("the", "THE", 1))
    beside(store, local)
    with pytest.raises(InputError, match=r"a\.jsonl changed: the inventory says"):
        build(store, documents_step(recipe_of(source), source, inventory), workers)
    assert_nothing_published(store)


def test_an_inventory_reads_only_what_it_does_not_know(
    in_a_folder: ArtifactStore, workers: Workers, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", [record(name, "text")])
    source = DolmaJsonlSource(name="s", paths=(f"{tmp_path}/in/*",))

    def taken(**options: Any) -> Inventory:
        inventory = take_inventory(in_a_folder, source, **options)
        build(in_a_folder, inventory.step, workers)
        remember(in_a_folder, inventory)
        return inventory

    assert [taken().hashed, taken().hashed, taken(rehash=True).hashed] == [2, 0, 2]
    first = taken()
    status = (tmp_path / "in" / "a.jsonl").stat()
    (tmp_path / "in" / "a.jsonl").write_text((tmp_path / "in" / "a.jsonl").read_text().replace("text", "TEXT"))
    os.utime(tmp_path / "in" / "a.jsonl", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert taken().step.ref == first.step.ref, "same size and time: not looked at"
    assert taken(rehash=True).step.ref != first.step.ref
