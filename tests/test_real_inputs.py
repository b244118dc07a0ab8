"""All real inputs through the whole chain: crawled pages, web text, books, and wiki text given as plain files."""

from __future__ import annotations

import bz2
import gzip
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from olmo_core import assets
from olmo_core.artifacts.build import Built
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.layout import document_objects
from olmo_core.documents.shards import read_shard
from olmo_core.report.explain import explain
from olmo_core.report.waterfall import waterfall
from olmo_core.workers import Workers
from tests.documents.warc_files import minimal_records
from tests.small_corpus import build_all, load

ENGLISH = [{"name": "language", "column": "target_score", "drop_if": "<", "value": 0.3}]
SENTENCES = {
    "books/972.txt": "the domestic cow sheds its horn every two years.",
    "books/15122.txt": "THE MINUTE BOYS OF YORKTOWN",
    "pages/<urn:uuid:283E41D7-F686-4C3E-B7DA-E8D248A100C1>": "Semantic Scholar Research Team",
}


def write_wiki(path: Path, folder: Path) -> dict[str, str]:
    """Write the text of every page that is no redirection as a file; returns what was written, by name."""
    folder.mkdir()
    written: dict[str, str] = {}
    with bz2.open(path) as handle:
        for _, element in ElementTree.iterparse(handle):
            if not element.tag.endswith("}page"):
                continue
            text = element.findtext(".//{*}text") or ""
            if text.strip() and not text.lower().startswith("#redirect"):
                name = f"{element.findtext('{*}id')}.txt"
                (folder / name).write_text(text, encoding="utf-8", newline="")
                written[name] = text
            element.clear()
    return written


def recipe(shared_data: Path, wiki: Path) -> dict[str, Any]:
    web = shared_data / "web"
    return {
        "name": "real",
        "shard_bytes": 1_000_000,
        "quarantine_limit": 0.0,
        "content": {"kind": "lexicon"},
        "sources": [
            {"read": {"kind": "warc", "name": "pages", "paths": [f"{web}/*.warc.gz"]}, "rules": ENGLISH},
            {"read": {"kind": "dolma-jsonl", "name": "lines", "paths": [f"{web}/*.jsonl.gz"]}, "rules": ENGLISH},
            {
                "read": {
                    "kind": "text", "name": "books", "paths": [f"{shared_data}/books/*.txt"], "strip": "gutenberg", "priority": 1,
                }
            },
            {"read": {"kind": "text", "name": "wiki", "paths": [f"{wiki}/*.txt"]}},
        ],
    }  # fmt: skip


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.mark.slow
def test_all_real_inputs_go_through(shared_data: Path, tmp_path: Path, workers: Workers) -> None:
    pages = write_wiki(shared_data / "wiki" / "enwiki-sample.xml.bz2", tmp_path / "wiki")
    store = ArtifactStore(str(tmp_path / "store"))
    built: dict[str, Built] = build_all(store, load(tmp_path, recipe(shared_data, tmp_path / "wiki")), workers)
    manifests = {label: one.manifest for label, one in built.items()}

    kinds = [
        fields["warc-type"]
        for path in sorted((shared_data / "web").glob("*.warc.gz"))
        for fields, _ in minimal_records(gzip.decompress(path.read_bytes()))
    ]
    lines = sum(
        len(gzip.decompress(p.read_bytes()).splitlines()) for p in sorted((shared_data / "web").glob("*.jsonl.gz"))
    )
    ledgers = {source: manifests[f"documents/{source}"].ledger for source in ("pages", "lines", "books", "wiki")}
    assert {source: ledger.read.documents for source, ledger in ledgers.items()} == {
        "pages": len(kinds), "lines": lines, "books": 2, "wiki": len(pages),
    }  # fmt: skip
    assert {source: ledger.kept.documents for source, ledger in ledgers.items()} == {
        "pages": kinds.count("response"), "lines": lines, "books": 2, "wiki": len(pages),
    }  # fmt: skip
    assert {reason: tally.documents for reason, tally in ledgers["pages"].dropped.items()} == {
        f"{kind}_record": kinds.count(kind) for kind in set(kinds) - {"response"}
    }
    assert len(pages) > 100 and kinds.count("response") == 37
    for label, manifest in manifests.items():
        manifest.ledger.balance(label)
    assert waterfall(manifests)  # raises where a stage did not read what the one before it kept

    texts = {
        row["id"]: row["text"]
        for one in document_objects(manifests["documents/wiki"])
        for row in read_shard(store.storage, one.path).to_pylist()
    }
    assert texts == pages

    corpus = sum(m.ledger.kept.documents for label, m in manifests.items() if label == "mixing/all")
    assert corpus > 120
    tokenizer = Tokenizer.from_file(str(assets.fetch("olmo-tokenizer")))
    name = max(pages, key=lambda page: len(pages[page]))
    sentence = words(max(pages[name].split("\n"), key=len))[:200]
    for document, known in {**SENTENCES, f"wiki/{name}": sentence}.items():
        (found,) = explain(store, "real", document)
        (place,) = found["tokens"]
        tokens = np.memmap(tmp_path / "store" / place["shard"], np.uint16, "r")[place["start"] :][: place["length"]]
        assert known in words(tokenizer.decode(tokens.tolist(), skip_special_tokens=False)), document
