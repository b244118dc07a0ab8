"""Mixture and mixing: every row of a corpus against a plain reading of spans, rates and hashes; shares of tokens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.layout import document_objects
from olmo_core.curation.steps.mixing import at_least, how_often
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError
from olmo_core.workers import Workers
from tests.small_corpus import Record, build_all, chain_of, load, passages, record, small_recipe, write_jsonl

CUTS = "c4_lines_with_too_few_words_spans"
MASKS = {"email": "|||EMAIL_ADDRESS|||", "phone": "|||PHONE_NUMBER|||", "ip": "|||IP_ADDRESS|||"}
RATES = {"half": 0.5, "twice": 2.0, "more": 2.5}
LONG = "This line is long enough to stay, and says so in plain words. "
PLANTED = [
    record(
        "cut-and-mask",
        f"{LONG}\njane@example.org\n{LONG}Ask joe@example.org, über\u00adall, at 192.0.2.1 or 555-123-4567.\nü b\n{LONG * 6}",
    ),
    record("all-cut", "two words\n" * 60),
    record("white", LONG * 3 + "\n\n" + "a b\n" * 100 + " \n" * 200),
]
MIN_BYTES = 450


def recipe_values(folder: Path, name: str, mixing: dict[str, Any], **of_sources: Any) -> dict[str, Any]:
    """Three sources without rules; `of_sources` holds each one's `repeat` or `share`."""
    sources = [
        {"read": {"kind": "dolma-jsonl", "name": n, "paths": [f"{folder}/{n}/*"]}, **of_sources[n]} for n in RATES
    ]
    return small_recipe(folder, name=name, mixing=mixing, sources=sources, shard_bytes=60_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sources of 200 documents and more."""
    folder = tmp_path_factory.mktemp("mixing")
    texts = passages(400)
    for n, source in enumerate(RATES):
        own = [record(f"{source}-{i}", text) for i, text in enumerate(texts[n::3])]
        own += PLANTED if source == "twice" else []
        for part in range(3):
            write_jsonl(folder / source / f"{part}.jsonl", own[part::3])
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> ArtifactStore:
    return ArtifactStore(str(folder / "store"))


@pytest.fixture(scope="module")
def built(folder: Path, store: ArtifactStore, workers: Workers) -> dict[str, Built]:
    """The chain with every option of mixing in use, as far as the corpus."""
    mixing = {"remove": [{"column": CUTS}], "min_bytes": MIN_BYTES}
    data = recipe_values(folder, "mix", mixing, **{name: {"repeat": rate} for name, rate in RATES.items()})
    return build_all(store, load(folder, data), workers, until="tokenization")


def rows(store: ArtifactStore, built: dict[str, Built], label: str, key: str) -> list[Record]:
    return read_shard(store.storage, built[label].manifest.object(key).path).to_pylist()  # type: ignore[no-any-return]


def rewritten(text: str, cuts: list[Record], personal: list[Record]) -> str:
    """Cut and mask byte by byte: a PII span that shares a byte with a cut goes with it."""
    raw = text.encode()
    cut = np.zeros(len(raw) + 1, bool)
    for span in cuts:
        cut[span["start"] : span["end"]] = True
    masks = {}
    for span in personal:
        if cut[span["start"] : span["end"]].any():
            cut[span["start"] : span["end"]] = True
        else:
            masks[span["start"]] = (span["end"], MASKS[span["kind"]].encode())
    out, i = b"", 0
    while i < len(raw):
        if i in masks:
            i, mask = masks[i]
            out += mask
        else:
            out += b"" if cut[i] else raw[i : i + 1]
            i += 1
    return out.decode()


def copies_of(source: str, identifier: str, rate: float) -> int:
    """The number of copies, by its definition."""
    key = hashlib.blake2b(b"7\0sample", digest_size=32).digest()
    digest = hashlib.blake2b(f"{source}\0{identifier}".encode(), digest_size=8, key=key).digest()
    chance = (int.from_bytes(digest, "little") >> 11) / (1 << 53)
    return int(rate) + (chance < rate % 1)


def test_the_corpus_is_what_a_plain_reading_gives(store: ArtifactStore, built: dict[str, Built]) -> None:
    fate: dict[str, list[int]] = {}

    def count(what: str, documents: int, text: str) -> None:
        tally = fate.setdefault(what, [0, 0])
        tally[0] += documents
        tally[1] += documents * len(text.encode())

    for source, rate in RATES.items():
        for one in document_objects(built[f"documents/{source}"].manifest):
            key = f"{source}/{one.key}"
            tables = [
                rows(store, built, label, k)
                for label, k in (
                    (f"documents/{source}", one.key),
                    (f"quality/{source}", one.key),
                    (f"pii/{source}", one.key),
                    ("near-duplicates/all", key),
                )
            ]
            expected = []
            for document, quality, pii, verdict in zip(*tables, strict=True):
                if not verdict["keep"]:
                    continue
                text = rewritten(document["text"], quality[CUTS], pii["pii_spans"])
                copies = copies_of(source, document["id"], rate)
                if not copies:
                    count("not_sampled", 1, document["text"])
                elif len(text.strip().encode()) < MIN_BYTES:
                    count("too_short", 1, document["text"])
                else:
                    count("kept", copies, document["text"])
                    count("repeated", copies - 1, document["text"])
                    expected += [{**document, "text": text, "copy": copy} for copy in range(copies)]
            assert rows(store, built, "mixing/all", key) == [
                {k: e[k] for k in ("id", "copy", *list(e)[1:-1])} for e in expected
            ]
    ledger = built["mixing/all"].manifest.ledger
    for what, tally in {"kept": ledger.kept, "repeated": ledger.repeated, **ledger.dropped}.items():
        assert [tally.documents, tally.bytes] == fate.pop(what), what
    assert fate == {}


def test_cuts_beat_masks_and_bytes_are_counted_as_bytes(store: ArtifactStore, built: dict[str, Built]) -> None:
    found = [
        r
        for o in built["mixing/all"].manifest.objects
        for r in rows(store, built, "mixing/all", o.key)
        if r["id"] == "cut-and-mask"
    ]
    assert [r["copy"] for r in found] == [0, 1]
    for row in found:
        assert (
            row["text"]
            == f"{LONG}\n{LONG}Ask |||EMAIL_ADDRESS|||, über\u00adall, at |||IP_ADDRESS||| or |||PHONE_NUMBER|||.\n{LONG * 6}"
        )
    kept = {r["id"] for o in built["mixing/all"].manifest.objects for r in rows(store, built, "mixing/all", o.key)}
    assert not {"all-cut", "white"} & kept, "white space counts for nothing"


def test_whole_repeats_and_parts(store: ArtifactStore, built: dict[str, Built]) -> None:
    objects = built["mixing/all"].manifest.objects
    for source, rate in RATES.items():
        counted: dict[str, int] = {}
        for one in objects:
            if one.key.startswith(f"{source}/"):
                for row in rows(store, built, "mixing/all", one.key):
                    counted[row["id"]] = counted.get(row["id"], 0) + 1
        assert (
            set(counted.values()) == {1}
            if rate == 0.5
            else set(counted.values()) <= {int(rate), int(rate) + (rate % 1 > 0)}
        )
        assert len(counted) > 50
    assert built["mixture/all"].manifest.counts["sources"]["half"]["rate"] == 0.5


@given(st.lists(st.text(max_size=5), max_size=50), st.floats(0, 5), st.integers(0, 9))
def test_more_is_never_less(ids: list[str], rate: float, seed: int) -> None:
    """A higher rate takes every copy that a lower one takes."""
    few, many = how_often(seed, "s", ids, rate), how_often(seed, "s", ids, rate + 0.25)
    assert (few <= many).all() and (np.abs(few - rate) <= 1).all()
    assert (how_often(seed, "s", ids, rate) == few).all()


def test_shares_of_tokens_are_met(
    folder: Path, store: ArtifactStore, workers: Workers, built: dict[str, Built]
) -> None:
    shares = {"half": 0.5, "twice": 0.3, "more": 0.2}
    total = 100_000
    data = recipe_values(
        folder, "shares", {"total_tokens": total}, **{name: {"share": share} for name, share in shares.items()}
    )
    done = build_all(store, load(folder, data), workers, until="packing")
    assert {label for label, b in done.items() if not b.reused} == {
        "near-duplicates/all",
        "mixture/all",
        "mixing/all",
        "tokenization/all",
    }
    planned = done["mixture/all"].manifest.counts["sources"]
    realised = done["tokenization/all"].manifest.counts["tokens_by_source"]
    for name, share in shares.items():
        assert planned[name]["planned_tokens"] == pytest.approx(share * total, abs=1)
        assert realised[name] == pytest.approx(share * total, abs=0.03 * total), name
    assert planned["half"]["rate"] > 1 > planned["more"]["rate"], "one is repeated, one is sampled"
    assert sum(realised.values()) == pytest.approx(total, rel=0.05)
    saved = json.loads(store.storage.read(done["mixture/all"].manifest.objects[0].path))
    assert saved == planned
    assert 64 <= planned["half"]["sampled_documents"] < planned["half"]["documents"]


def test_a_share_of_nothing_is_an_error(
    folder: Path, store: ArtifactStore, workers: Workers, built: dict[str, Built]
) -> None:
    data = recipe_values(
        folder, "none", {"total_tokens": 1000}, half={"share": 0.5}, twice={"share": 0.25}, more={"share": 0.25}
    )
    data["sources"][1]["rules"] = [{"name": "all", "column": "gopher_word_count", "drop_if": ">=", "value": 0}]
    chain = chain_of(store, load(folder, data))
    for step in chain.steps("mixture"):
        build(store, step, workers)
    with pytest.raises(
        InputError, match="source twice shall give 25.0% of the tokens, but none of its documents survived"
    ):
        build(store, chain.step("mixture"), workers)
    assert store.find(chain.ref("mixture")) is None


@given(st.lists(st.lists(st.floats(0, 1, width=32), max_size=5), max_size=20), st.floats(0, 1), st.integers(0, 3))
def test_spans_of_a_score(scores: list[list[float]], least: float, skipped: int) -> None:
    kind = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("score", pa.float32())]))
    spans = [[{"start": i, "end": i + 1, "score": s} for i, s in enumerate(row)] for row in scores]
    column = pa.array(spans, kind).slice(skipped)
    assert at_least(column, least).to_pylist() == [[s for s in row if s["score"] >= least] for row in spans[skipped:]]
    assert at_least(column, None) is column
