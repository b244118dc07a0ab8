"""The documents stage over web archives: the ledger, the counts, the quarantine, and the same bytes whoever does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.steps.inputs import documents_step, take_inventory
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError, QuarantineError
from olmo_core.workers import Workers
from tests.documents.warc_files import PROSE, block, page, record, response, sha1, write
from tests.small_corpus import load


def write_crawl(folder: Path) -> None:
    for f in range(4):
        pages = [response(page(f"{PROSE * 3} File {f}, page {n}."), n=100 * f + n) for n in range(5)]
        others = [
            record(b"GET / HTTP/1.1\r\n\r\n", "request", f),
            record(block(b"", status="302 Found"), n=100 * f + 50),
            response(page(), n=100 * f + 51, WARC_Payload_Digest=sha1(b"other")),
        ]
        write(folder / f"{f}.warc.gz", [*pages, *others])


def recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    source = {"kind": "warc", "name": "web", "paths": [f"{folder}/crawl/*.warc.gz"]}
    return {
        "name": "web",
        "shard_bytes": 4000,
        "quarantine_limit": 0.2,
        "content": {"kind": "lexicon"},
        "sources": [{"read": source | changes.pop("source", {})}],
        **changes,
    }


def documents(store: ArtifactStore, folder: Path, workers: Workers, **changes: Any) -> Built:
    loaded = load(folder, recipe(folder, **changes))
    source = loaded.sources[0].read
    inventory = take_inventory(store, source)
    build(store, inventory.step, workers)
    return build(store, documents_step(loaded, source, inventory), workers)


def test_every_record_is_in_the_ledger_and_two_workers_make_the_same_bytes(tmp_path: Path, workers: Workers) -> None:
    write_crawl(tmp_path / "crawl")
    built = documents(ArtifactStore(str(tmp_path / "two")), tmp_path, workers)
    manifest = built.manifest
    ledger = manifest.ledger
    assert ledger.read.documents == 32
    assert ledger.kept.documents == 20
    assert {k: v.documents for k, v in ledger.dropped.items()} == {"http_redirect": 4, "request_record": 4}
    assert {k: v.documents for k, v in ledger.quarantined.items()} == {"digest_mismatch": 4}
    assert manifest.counts["notes"] == {"charset found by header": 20, "digest checked": 20}
    assert len(manifest.shards) > 1
    assert all(shard.cpu_seconds > 0 for shard in manifest.shards)

    store = ArtifactStore(str(tmp_path / "one"))
    with Workers(1) as alone:
        again = documents(store, tmp_path, alone).manifest
    assert [(o.key, o.sha256) for o in again.objects] == [(o.key, o.sha256) for o in manifest.objects]
    bad = [o for o in again.objects if o.meta.get("role") == "quarantine"]
    assert sum(read_shard(store.storage, o.path).num_rows for o in bad) == 4

    write(tmp_path / "crawl" / "new.warc.gz", [response(page(), n=999)])
    more = documents(store, tmp_path, workers)
    assert not more.reused and more.shards_reused >= len(again.shards) - 1


def test_pages_over_the_limit_of_time_are_quarantined_and_counted(tmp_path: Path, workers: Workers) -> None:
    slow = response("<html><body>" + "<p>word " * 100_000, n=2)
    write(tmp_path / "crawl" / "a.warc.gz", [response(page(), n=1), slow, response(page("Other. " * 90), n=3)])
    store = ArtifactStore(str(tmp_path / "store"))
    built = documents(store, tmp_path, workers, quarantine_limit=0.5, source={"page_seconds": 0.5})
    assert {k: v.documents for k, v in built.manifest.ledger.quarantined.items()} == {"extraction_timeout": 1}
    assert built.manifest.ledger.kept.documents == 2
    with pytest.raises(QuarantineError, match="1 of 3 records were quarantined .extraction_timeout 1"):
        documents(store, tmp_path, workers, quarantine_limit=0.1, source={"page_seconds": 0.5})


def test_files_without_a_page_are_an_error_that_says_what_they_hold(tmp_path: Path, workers: Workers) -> None:
    write(tmp_path / "crawl" / "a.warc.gz", [record(b"text", "conversion", 1), record(b"", "warcinfo", 2)])
    with pytest.raises(InputError, match=r"no document in 1 files.*conversion_record 1, warcinfo_record 1"):
        documents(ArtifactStore(str(tmp_path / "store")), tmp_path, workers)
