"""Trials: a part of each source by `sample` and `limit`, counted, and without a trace in what is not a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.layout import document_objects
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.workers import Workers
from tests.curation.test_steps_inputs import read_in, rows
from tests.small_corpus import passages, record, write_jsonl

RECORDS = [record(f"t{i}", text) for i, text in enumerate(passages(300)[:400])]
SIZES = {r["id"]: len(r["text"].encode()) for r in RECORDS}


@pytest.fixture
def source(tmp_path: Path) -> DolmaJsonlSource:
    for i in range(8):
        write_jsonl(tmp_path / "in" / f"{i}.jsonl", RECORDS[50 * i : 50 * (i + 1)])
    return DolmaJsonlSource(name="s", paths=(f"{tmp_path}/in/*",))


def taken(
    tmp_path: Path, workers: Workers, source: DolmaJsonlSource, **fields: Any
) -> tuple[list[str], dict[str, int]]:
    """The ids that were taken, and the documents dropped by reason."""
    store = ArtifactStore(str(tmp_path / "store"))
    built = read_in(store, workers, source, **{"shard_bytes": 20_000, **fields})
    ledger = built.manifest.ledger
    ids = [r["id"] for r in rows(store, built)]
    assert ledger.read.documents == 400 and ledger.read.bytes == sum(SIZES.values())
    assert (ledger.kept.documents, ledger.kept.bytes) == (len(ids), sum(SIZES[i] for i in ids))
    assert sum(o.rows for o in document_objects(built.manifest)) == len(ids)
    return ids, {reason: tally.documents for reason, tally in ledger.dropped.items()}


def test_a_sample_is_a_part_by_hash_of_the_id(tmp_path: Path, workers: Workers, source: DolmaJsonlSource) -> None:
    quarter, dropped = taken(tmp_path, workers, source, sample=0.25)
    assert 70 <= len(quarter) <= 130 and dropped == {"outside_sample": 400 - len(quarter)}
    half, _ = taken(tmp_path, workers, source, sample=0.5)
    assert set(quarter) < set(half), "a larger sample holds the smaller one"
    coarse, _ = taken(tmp_path, workers, source, sample=0.25, shard_bytes=1 << 20)
    assert sorted(coarse) == sorted(quarter), "shards have no part in it"


def test_a_limit_is_divided_among_the_shards(tmp_path: Path, workers: Workers, source: DolmaJsonlSource) -> None:
    ids, dropped = taken(tmp_path, workers, source, limit=80)
    assert len(ids) == 80 and dropped == {"outside_limit": 320}
    assert {i for i in ids if int(i[1:]) % 50 < 10} == set(ids), "the first ten of each file"
    one, _ = taken(tmp_path, workers, source, limit=1, shard_bytes=1 << 20)
    assert len(one) == 1


def test_both_together(tmp_path: Path, workers: Workers, source: DolmaJsonlSource) -> None:
    ids, dropped = taken(tmp_path, workers, source, sample=0.5, limit=16)
    assert len(ids) == 16
    assert dropped["outside_sample"] + dropped["outside_limit"] == 384
    half, _ = taken(tmp_path, workers, source, sample=0.5)
    assert set(ids) < set(half)


def test_no_trial_takes_all(tmp_path: Path, workers: Workers, source: DolmaJsonlSource) -> None:
    ids, dropped = taken(tmp_path, workers, source)
    assert sorted(ids) == sorted(SIZES) and dropped == {}
