"""Reading a group of files: batches, files checked against the inventory, ids unique over all files of the group."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pytest

from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.documents.files import SourceFile, hash_file
from olmo_core.documents.reader import read_documents, scan
from olmo_core.errors import InputError


def write(path: Path, *rows: tuple[str, str]) -> None:
    data = b"".join(json.dumps({"id": i, "text": t}).encode() + b"\n" for i, t in rows)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def source(tmp_path: Path) -> DolmaJsonlSource:
    write(tmp_path / "a.jsonl", ("1", "one"), ("2", "two"))
    write(tmp_path / "b.jsonl.gz", ("3", "three"), ("1", "again"), ("4", "four"))
    write(tmp_path / "c.jsonl")
    return DolmaJsonlSource(name="s", paths=(f"{tmp_path}/*",))


def inventory(files: list[SourceFile]) -> dict[str, tuple[int, str]]:
    return {f.name: (f.size, hash_file(f)) for f in files}


@pytest.mark.parametrize("batch_bytes", [1, 1100, 1 << 20])
def test_batches_hold_everything_once_whatever_their_size(source: DolmaJsonlSource, batch_bytes: int) -> None:
    files = scan(source)
    batches = list(read_documents(source, files, inventory(files), batch_bytes))
    assert len(batches) == {1: 5, 1100: 3, 1 << 20: 1}[batch_bytes]
    documents = pa.concat_tables([b.documents for b in batches])
    assert documents["id"].to_pylist() == ["1", "2", "3", "4"]
    quarantined = pa.concat_tables([b.quarantined for b in batches]).to_pylist()
    assert [(q["file"], q["position"], q["reason"]) for q in quarantined] == [("b.jsonl.gz", 2, "duplicate_id")]
    finished = [f for b in batches for f in b.finished]
    assert [(f.name, f.records, f.derived_ids) for f in finished] == [
        ("a.jsonl", 2, 0),
        ("b.jsonl.gz", 3, 0),
        ("c.jsonl", 0, 0),
    ]
    assert {f.name: (f.size, f.sha256) for f in finished} == inventory(files)


def test_derived_ids_are_counted_and_do_not_hang_on_the_prefix(tmp_path: Path) -> None:
    seen = []
    for place in ("one", "two/three"):
        folder = tmp_path / place / "data"
        folder.mkdir(parents=True)
        (folder / "x.jsonl").write_bytes(b'{"text":"a"}\n\n{"text":"b"}\n{"id":"x.jsonl:1","text":"c"}\n')
        source = DolmaJsonlSource(name="s", paths=("data/*",), root=str(tmp_path / place))
        (batch,) = read_documents(source, scan(source))
        seen.append(batch.documents["id"].to_pylist())
        assert batch.finished[0].derived_ids == 2
    assert seen[0] == seen[1] == ["data/x.jsonl:1", "data/x.jsonl:3", "x.jsonl:1"]


def test_another_content_than_the_inventory_has_is_an_error_with_both_digests(
    source: DolmaJsonlSource, tmp_path: Path
) -> None:
    files = scan(source)
    known = inventory(files)
    write(tmp_path / "a.jsonl", ("1", "one"), ("2", "TWO"))
    now = hashlib.sha256((tmp_path / "a.jsonl").read_bytes()).hexdigest()
    with pytest.raises(
        InputError,
        match=rf"a\.jsonl changed.*{known['a.jsonl'][1]}.*{now}.*[Rr]un again",
    ):
        list(read_documents(source, files, known))


def test_a_file_cut_after_the_inventory_is_said_to_have_changed(source: DolmaJsonlSource, tmp_path: Path) -> None:
    files = scan(source)
    known = inventory(files)
    path = tmp_path / "b.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(InputError, match=r"b\.jsonl\.gz changed: the inventory says"):
        list(read_documents(source, files, known))


def test_a_file_that_was_cut_all_along_is_said_to_be_truncated(source: DolmaJsonlSource, tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-5])
    files = scan(source)
    with pytest.raises(InputError, match=r"b\.jsonl\.gz: gzip data is truncated"):
        list(read_documents(source, files, inventory(files)))


def test_a_file_that_is_gone_or_unknown_is_an_error(source: DolmaJsonlSource, tmp_path: Path) -> None:
    files = scan(source)
    known = inventory(files)
    with pytest.raises(InputError, match=r"the inventory has no file 'a\.jsonl'"):
        list(read_documents(source, files, {}))
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(InputError, match=r"cannot open .*a\.jsonl: it is not there"):
        list(read_documents(source, files, known))


def test_hashing_notices_a_file_that_grew(source: DolmaJsonlSource, tmp_path: Path) -> None:
    files = scan(source)
    with (tmp_path / "a.jsonl").open("ab") as handle:
        handle.write(b"\n")
    with pytest.raises(InputError, match=r"the listing said \d+ bytes, \d+ were read"):
        hash_file(files[0])


def test_real_web_pages(shared_data: Path) -> None:
    """Common Crawl lines in Dolma's form, against plain json."""
    source = DolmaJsonlSource(name="cc", paths=(f"{shared_data}/web/*.jsonl.gz",))
    rows = [row for b in read_documents(source, scan(source)) for row in b.documents.to_pylist()]
    lines = [
        json.loads(line)
        for path in sorted((shared_data / "web").glob("*.jsonl.gz"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    assert len(rows) == len(lines) > 10
    assert [r["text"] for r in rows] == [one["text"] for one in lines]
    assert [r["id"] for r in rows] == [one["id"] for one in lines]
