"""Tokens on the small corpus, read as a trainer reads them, and decoded with the tokenizers library."""

from __future__ import annotations

import hashlib
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from olmo_core import assets
from olmo_core.artifacts.build import build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.steps.tokens import joined, row_groups
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError
from olmo_core.workers import Workers
from tests.small_corpus import Record, Run, build_all, chain_of, load, record, small_recipe, write_jsonl

END = 50279


@pytest.fixture(scope="module")
def library() -> Any:
    """The tokenizer as the tokenizers library reads it."""
    return Tokenizer.from_file(str(assets.fetch("olmo-tokenizer")))


@pytest.fixture(scope="module")
def shards(small: Run) -> dict[str, tuple[np.ndarray[Any, Any], list[Record]]]:
    """Ids and index of each token shard, read as plain files."""
    manifest = small.manifest("packing/all")
    found: dict[str, tuple[np.ndarray[Any, Any], list[Record]]] = {}
    for one in manifest.objects:
        if one.key.endswith(".npy"):
            ids = np.memmap(f"{small.store.uri}/{one.path}", dtype=np.uint16, mode="r")
            index = read_shard(small.store.storage, manifest.object(one.key.removesuffix(".npy") + ".index").path)
            found[one.key] = (ids, index.to_pylist())
    return found


@pytest.fixture(scope="module")
def corpus(small: Run) -> dict[tuple[str, int], Record]:
    """The corpus's rows by shard and row."""
    return {
        (one.key, i): row
        for one in small.manifest("mixing/all").objects
        for i, row in enumerate(small.rows("mixing/all", one.key))
    }


def order_of(seed: int, source: str, identifier: str, copy: int) -> int:
    """The hash that places a document, by its definition."""
    key = hashlib.blake2b(f"{seed}\0shuffle".encode(), digest_size=32).digest()
    name = f"{source}\0{identifier}\0{copy}".encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8, key=key).digest(), "little")


def test_files_are_headerless_uint16(small: Run, shards: Any) -> None:
    assert sorted(shards) == ["00000.npy", "00001.npy", "00002.npy"]
    total = 0
    for one in small.manifest("packing/all").objects:
        if one.key in shards:
            ids, _ = shards[one.key]
            raw = small.store.storage.read(one.path)
            assert len(raw) == one.size == 2 * len(ids) and one.rows == len(ids)
            assert not raw.startswith(b"\x93NUMPY") and np.frombuffer(raw, "<u2").tolist() == ids.tolist()
            assert one.meta == {"tokens": len(ids), "dtype": "uint16", "documents": len(shards[one.key][1])}
            assert len(ids) < 1.5 * 30000
            total += len(ids)
    assert (
        small.manifest("packing/all").counts["tokens"] == small.manifest("tokenization/all").counts["tokens"] == total
    )


def test_every_document_decodes_to_its_text(small: Run, shards: Any, corpus: Any, library: Any) -> None:
    seen = set()
    for ids, index in shards.values():
        position = 0
        for entry in index:
            assert entry["start"] == position
            position += entry["length"]
            assert ids[position - 1] == END
            body = ids[entry["start"] : position - 1].tolist()
            assert END not in body, "a literal <|endoftext|> in a text is text"
            row = corpus[entry["shard"], entry["row"]]
            assert library.decode(body, skip_special_tokens=False) == unicodedata.normalize("NFC", row["text"])
            assert entry["source"] == row["source"] == entry["shard"].split("/")[0]
            seen.add((row["source"], row["id"], row["copy"]))
        assert position == len(ids)
    assert len(seen) == sum(len(index) for _, index in shards.values()), "each (id, copy) once"
    assert seen == {(row["source"], row["id"], row["copy"]) for row in corpus.values()}


def test_planted_texts_come_through(shards: Any, corpus: Any, library: Any) -> None:
    decoded = {}
    for ids, index in shards.values():
        for entry in index:
            row = corpus[entry["shard"], entry["row"]]
            decoded[row["id"]] = library.decode(
                ids[entry["start"] : entry["start"] + entry["length"] - 1].tolist(), skip_special_tokens=False
            )
    assert "before\0after" in decoded["nul"]
    assert "a literal <|endoftext|> and |||EMAIL_ADDRESS||| in" in decoded["special"]
    assert "caf\u00e9 in two" in decoded["unicode"] and "日本語, 👩‍👩‍👧 and U+2028 \u2028" in decoded["unicode"]
    start = "Write to |||EMAIL_ADDRESS||| or call |||PHONE_NUMBER|||, or try the machine at |||IP_ADDRESS||| before"
    assert decoded["personal"].startswith(start)


def test_masks_are_single_tokens(small: Run, shards: Any, corpus: Any, library: Any) -> None:
    for ids, index in shards.values():
        for entry in index:
            if corpus[entry["shard"], entry["row"]]["id"] == "personal":
                body = ids[entry["start"] : entry["start"] + entry["length"]].tolist()
                assert {
                    library.token_to_id(f"|||{name}|||") for name in ("EMAIL_ADDRESS", "PHONE_NUMBER", "IP_ADDRESS")
                } <= set(body)
                return
    raise AssertionError("the document `personal` is in no shard")


def test_order_is_by_hash(small: Run, shards: Any, corpus: Any) -> None:
    rows = [corpus[e["shard"], e["row"]] for key in sorted(shards) for e in shards[key][1]]
    order = [order_of(7, row["source"], row["id"], row["copy"]) for row in rows]
    assert order == sorted(order)
    packed = [(row["source"], row["id"], row["copy"]) for row in rows]
    written = [(row["source"], row["id"], row["copy"]) for row in corpus.values()]
    assert packed != written and sorted(packed) == sorted(written)
    together = sum(a[0] == b[0] for a, b in zip(packed, packed[1:], strict=False)) / len(packed)
    assert together < 0.8, "sources are mingled"


def test_another_seed_is_another_order(small: Run, workers: Workers, tmp_path: Path) -> None:
    shutil.copytree(small.folder, tmp_path / "copy")
    store = ArtifactStore(str(tmp_path / "copy" / "store"))
    done = build_all(store, load(tmp_path / "copy", small_recipe(tmp_path / "copy", seed=8)), workers, until="report")
    assert done["near-duplicates/all"].reused and not done["packing/all"].reused
    before, after = (m.object("00000.index") for m in (small.manifest("packing/all"), done["packing/all"].manifest))
    first = [
        read_shard(store.storage, one.path).slice(0, 20).select(["shard", "row"]).to_pylist() for one in (before, after)
    ]
    assert first[0] != first[1]


def test_packing_reads_the_row_groups_of_its_range_and_no_others() -> None:
    random = np.random.default_rng(3)
    hashes = np.sort(random.integers(0, 1 << 63, 1000, np.uint64) << np.uint64(1))
    hashes[300:420] = hashes[300]  # one hash over several groups
    firsts = hashes[::50].tolist()
    for count in (1, 7, 64):
        for part in range(count):
            low, high = part * (1 << 64) // count, (part + 1) * (1 << 64) // count - 1
            wanted = np.flatnonzero((hashes >= np.uint64(low)) & (hashes <= np.uint64(high)))
            groups = row_groups(firsts, low, high)
            assert set((wanted // 50).tolist()) <= set(groups)
            assert len(groups) <= len(set((wanted // 50).tolist())) + 1
    around = int(hashes[300])
    assert list(row_groups(firsts, around, around))[:1] <= [6] and 8 in row_groups(firsts, around, around)
    assert list(row_groups([], 0, 5)) == []


def test_runs_are_joined_across_pieces() -> None:
    data = np.arange(100)
    pieces = [data[:8], data[8:90], data[90:]]
    starts, lengths = np.array([7, 8, 90, 3]), np.array([1, 0, 10, 2])
    expected = np.concatenate([data[s : s + n] for s, n in zip(starts, lengths, strict=True)])
    assert joined(pieces, starts, lengths).tolist() == expected.tolist()
    assert joined(pieces, starts[:0], lengths[:0]).tolist() == []


def test_no_survivor_is_an_error(workers: Workers, tmp_path: Path) -> None:
    """Also: shards without any rows go through every stage."""
    write_jsonl(tmp_path / "web" / "a.jsonl", [record("a", "Four words of text.")])
    write_jsonl(tmp_path / "web" / "empty.jsonl", [])
    sources = small_recipe(tmp_path)["sources"][:1]
    store = ArtifactStore(str(tmp_path / "store"))
    chain = chain_of(store, load(tmp_path, small_recipe(tmp_path, sources=sources)))
    for step in chain.steps("packing"):
        build(store, step, workers)
    with pytest.raises(InputError, match="no document survived"):
        build(store, chain.step("packing"), workers)
    assert store.find(chain.ref("packing")) is None
