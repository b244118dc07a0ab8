"""Near duplicates through the step: planted copies across sources, priorities, and every pair by exact Jaccard."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.histograms import breaks, dense, threshold_rule
from olmo_core.curation.layout import document_objects
from olmo_core.documents.shards import read_shard
from olmo_core.workers import Workers
from tests.oracles.near_duplicate_corpus import all_pairs, jaccard, shingles
from tests.small_corpus import Record, Run, build_all, load, small_recipe


def verdicts(store: ArtifactStore, manifests: dict[str, Manifest]) -> dict[str, Record]:
    """Every document by `source/id`, with its text and verdict."""
    found = {}
    for source in ("web", "wiki"):
        for one in document_objects(manifests[f"documents/{source}"]):
            rows = read_shard(store.storage, one.path).to_pylist()
            verdict = read_shard(
                store.storage, manifests["near-duplicates/all"].object(f"{source}/{one.key}").path
            ).to_pylist()
            assert len(rows) == len(verdict)
            found.update({f"{source}/{r['id']}": {**r, **v} for r, v in zip(rows, verdict, strict=True)})
    return found


@pytest.fixture(scope="module")
def documents(small: Run) -> dict[str, Record]:
    """The documents of the small run."""
    return verdicts(small.store, {label: b.manifest for label, b in small.built.items()})


def test_copies_go_and_name_the_document_of_the_higher_priority(documents: dict[str, Record]) -> None:
    copy, near = documents["web/copy-of-wiki"], documents["web/nearly-wiki"]
    assert (copy["keep"], copy["kind"], copy["duplicate_of"], copy["jaccard"]) == (False, "exact", "wiki/w0-0", 1.0)
    assert (near["keep"], near["kind"], near["duplicate_of"]) == (False, "near", "wiki/w0-1")
    exact = jaccard(shingles(near["text"]), shingles(documents["wiki/w0-1"]["text"]))
    assert near["jaccard"] == pytest.approx(exact, abs=1e-6) and 0.8 <= exact < 1
    for name in ("wiki/w0-0", "wiki/w0-1"):
        kept = documents[name]
        assert (kept["keep"], kept["kind"], kept["duplicate_of"], kept["jaccard"]) == (True, None, None, None)


def test_counts_say_how_similar_pairs_were_and_where_some_lie(small: Run, documents: dict[str, Record]) -> None:
    counts = small.manifest("near-duplicates/all").counts
    near = [d["jaccard"] for d in documents.values() if d["kind"] == "near"]
    found = dense(counts["similarities"], breaks("fraction", [threshold_rule(0.8)]))
    bins = [min(int(j * 50), 49) for j in near]
    assert all(abs(j * 50 - round(j * 50)) > 1e-4 or j in (1.0, 0.8) for j in near), (
        "none by chance at the end of a bin"
    )
    assert found[41:51].tolist() == [bins.count(i) for i in range(40, 50)]
    assert found.sum() == len(near) and found[:41].sum() == 0, "nothing below the threshold"
    shown = counts["examples"]
    assert [s["kind"] for s in shown] == ["near"] * min(8, len(near)) + ["exact"]
    assert shown[0]["jaccard"] == pytest.approx(min(near), abs=1e-6)
    for one in shown:
        names = []
        for place in (one["dropped"], one["kept"]):
            manifest = small.manifest(f"documents/{place['source']}")
            row = (
                read_shard(small.store.storage, manifest.object(place["key"]).path)
                .slice(place["row"], 1)
                .to_pylist()[0]
            )
            names.append(f"{place['source']}/{row['id']}")
        verdict = documents[names[0]]
        assert (verdict["keep"], verdict["duplicate_of"], verdict["kind"]) == (False, names[1], one["kind"])
        assert verdict["jaccard"] == pytest.approx(one["jaccard"], abs=1e-6)


def test_every_dropped_document_repeats_a_kept_one(documents: dict[str, Record]) -> None:
    dropped = [d for d in documents.values() if d["keep"] is False]
    assert len(dropped) > 5
    for one in dropped:
        kept = documents[one["duplicate_of"]]
        assert kept["keep"] is True
        assert one["jaccard"] == pytest.approx(jaccard(shingles(one["text"]), shingles(kept["text"])), abs=1e-6)
        assert one["jaccard"] >= 0.8
        assert (one["kind"] == "exact") == (one["text"] == kept["text"])
        if one["source"] == kept["source"]:
            assert len(kept["text"].encode()) >= len(one["text"].encode()), "of one source the longer one stays"


def test_no_two_kept_documents_are_near_duplicates(documents: dict[str, Record]) -> None:
    kept = [d for d in documents.values() if d["keep"]]
    pairs, similarities = all_pairs([shingles(d["text"]) for d in kept])
    missed = [
        (kept[i]["id"], kept[j]["id"])
        for (i, j), s in zip(pairs.tolist(), similarities.tolist(), strict=True)
        if s >= 0.8
    ]
    assert len(pairs) > 100 and missed == []


def test_documents_that_selection_dropped_have_no_verdict(small: Run, documents: dict[str, Record]) -> None:
    selected = dict(
        zip((f"web/{d['id']}" for d in small.rows("documents/web")), small.rows("selection/web"), strict=True)
    )
    for name, row in selected.items():
        assert (documents[name]["keep"] is None) == (not row["keep"]), name
    assert documents["web/german"]["keep"] is None
    ledger = small.manifest("near-duplicates/all").ledger
    for kind in ("exact", "near"):
        hit = [len(d["text"].encode()) for d in documents.values() if d["kind"] == kind]
        tally = ledger.dropped[f"{kind}_duplicate"]
        assert (tally.documents, tally.bytes) == (len(hit), sum(hit))


def test_the_other_priority_keeps_the_other_copy(small: Run, workers: Workers, tmp_path: Path) -> None:
    shutil.copytree(small.folder, tmp_path / "copy")
    store = ArtifactStore(str(tmp_path / "copy" / "store"))
    data: dict[str, Any] = small_recipe(tmp_path / "copy")
    data["sources"][0]["read"]["priority"] = 2
    done = build_all(store, load(tmp_path / "copy", data), workers, until="mixture")
    assert {label for label, b in done.items() if not b.reused} == {"near-duplicates/all"}
    found = verdicts(store, {label: b.manifest for label, b in done.items()})
    assert found["wiki/w0-0"]["duplicate_of"] == "web/copy-of-wiki"
    assert found["wiki/w0-1"]["duplicate_of"] == "web/nearly-wiki"
    assert found["web/copy-of-wiki"]["keep"] and found["web/nearly-wiki"]["keep"]


def test_a_lower_threshold_drops_more(
    small: Run, documents: dict[str, Record], workers: Workers, tmp_path: Path
) -> None:
    """The threshold is no part of the signatures: they are reused."""
    shutil.copytree(small.folder, tmp_path / "copy")
    store = ArtifactStore(str(tmp_path / "copy" / "store"))
    data = small_recipe(tmp_path / "copy", near_duplicates={"threshold": 0.5})
    done = build_all(store, load(tmp_path / "copy", data), workers, until="mixture")
    assert {label for label, b in done.items() if not b.reused} == {"near-duplicates/all"}
    before = {name for name, d in documents.items() if d["keep"] is False}
    after = {
        name
        for name, d in verdicts(store, {label: b.manifest for label, b in done.items()}).items()
        if d["keep"] is False
    }
    assert len(after) > len(before)
