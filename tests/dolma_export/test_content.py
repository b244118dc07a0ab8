"""What an export of the small corpus holds, read with plain Python, with our own reader, and as a trainer reads tokens."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.artifacts.build import build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.content import ContentRecipe
from olmo_core.curation.corpus_recipe import CorpusRecipe, SourceRecipe
from olmo_core.curation.steps.inputs import documents_step, take_inventory
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.documents.shards import read_shard
from olmo_core.workers import Workers
from tests.dolma_export.reading import STAGES, Records, every_file, keys_of, read_lines
from tests.small_corpus import Run


def test_there_is_a_file_for_every_shard_and_stage(small: Run, exported: Path) -> None:
    expected = {"export.json", "web/mix.json", "wiki/mix.json"}
    for source in ("web", "wiki"):
        for shard in keys_of(small, source):
            expected |= {f"{source}/attributes/{stage}/{shard}.jsonl.gz" for stage in STAGES}
            expected |= {f"{source}/documents/{shard}.jsonl.gz", f"corpus/documents/{source}/{shard}.jsonl.gz"}
    expected |= {f"tokens/part-0-0000{n}.{suffix}" for n in range(3) for suffix in ("npy", "csv.gz")}
    assert set(every_file(exported)) == expected


@pytest.mark.parametrize("source", ["web", "wiki"])
def test_documents_are_the_rows_of_the_artifact(small: Run, exported: Path, source: str) -> None:
    for shard in keys_of(small, source):
        rows = small.rows(f"documents/{source}", shard)
        expected = [
            {n: json.loads(v) if n == "metadata" else v for n, v in row.items() if v is not None} for row in rows
        ]
        assert read_lines(exported / source / "documents" / f"{shard}.jsonl.gz") == expected
    assert any(r["id"] == "nul" and "\0" in r["text"] for r in small.rows("documents/web")), "the case is there"


def test_the_corpus_is_exported_as_mixed(small: Run, exported: Path) -> None:
    repeated = 0
    for one in small.manifest("mixing/all").objects:
        rows = small.rows("mixing/all", one.key)
        found = read_lines(exported / "corpus" / "documents" / f"{one.key}.jsonl.gz")
        assert [(r["id"], r["text"], r["source"]) for r in rows] == [(f["id"], f["text"], f["source"]) for f in found]
        repeated += sum(r["copy"] > 0 for r in rows)
    assert repeated > 10, "repeated documents are there as often as the corpus has them"


def test_our_reader_gives_the_same_documents_back(small: Run, exported: Path, workers: Workers, tmp_path: Path) -> None:
    """Texts and metadata byte for byte: also NUL, combining characters, line separators, special tokens."""
    for source in ("web", "wiki"):
        read = DolmaJsonlSource(name=source, paths=(f"{exported}/{source}/documents/*.jsonl.gz",))
        store = ArtifactStore(str(tmp_path / source))
        inventory = take_inventory(store, read)
        build(store, inventory.step, workers)
        recipe = CorpusRecipe(
            name="again", sources=(SourceRecipe(read=read),), content=ContentRecipe(kind="lexicon"), shard_bytes=33000
        )
        built = build(store, documents_step(recipe, read, inventory), workers)
        assert built.manifest.ledger.quarantined == {}
        back = [row for o in built.manifest.objects for row in read_shard(store.storage, o.path).to_pylist()]
        before = small.rows(f"documents/{source}")
        assert sorted(back, key=lambda r: r["id"]) == sorted(before, key=lambda r: r["id"])
        assert all(row["source"] == source for row in back)


def whole_text(line: dict[str, Any], text: str) -> dict[str, float]:
    """Scores of attributes that are about the whole text; each must span it."""
    found = {}
    for name, spans in line["attributes"].items():
        if "_spans" not in name:
            ((start, end, score),) = spans
            assert (start, end) == (0, len(text)) and isinstance(score, float), name
            found[name] = score
    return found


@pytest.mark.parametrize("source", ["web", "wiki"])
@pytest.mark.parametrize("stage", STAGES)
def test_attributes_say_what_the_columns_say(small: Run, exported: Path, source: str, stage: str) -> None:
    over_all = stage == "near-duplicates"
    label, prefix = (f"{stage}/all", f"{source}/") if over_all else (f"{stage}/{source}", "")
    name = stage.replace("-", "_")
    seen: set[str] = set()
    for shard in keys_of(small, source):
        documents = small.rows(f"documents/{source}", shard)
        found = read_lines(exported / source / "attributes" / stage / f"{shard}.jsonl.gz")
        tags = small.rows(label, prefix + shard)
        assert [(line["id"], line["source"]) for line in found] == [(d["id"], source) for d in documents]
        for line, row, document in zip(found, tags, documents, strict=True):
            text = document["text"]
            scores = whole_text(line, text)
            seen |= set(line["attributes"]) | set(line.get("values", ()))
            for column, value in row.items():
                attribute = f"{name}__{name}__{''.join(c if c.isalnum() else '_' for c in column)}"
                if isinstance(value, bool | int | float):
                    assert scores.pop(attribute) == round(float(value), 5)
                elif column in ("language", "reason", "kind") and value is not None:
                    assert scores.pop(f"{attribute}__{value}") == 1.0
                elif column == "duplicate_of" and value is not None:
                    assert line["values"] == {attribute: value}
                elif isinstance(value, list):
                    check_spans(line["attributes"], attribute, value, text, column == "pii_spans")
            assert not scores, "nothing that is in no column"
    assert seen


def check_spans(attributes: dict[str, Any], attribute: str, spans: Records, text: str, by_kind: bool) -> None:
    """Exported spans cut the same pieces out of the text, in code points, as ours do in bytes."""
    raw = text.encode()
    names = {f"{attribute}__{s['kind']}" if by_kind else attribute for s in spans}
    assert names == {n for n in attributes if n == attribute or n.startswith(attribute + "__")}
    for name in names:
        mine = [s for s in spans if not by_kind or name.endswith("__" + s["kind"])]
        assert [text[start:end] for start, end, _ in attributes[name]] == [
            raw[s["start"] : s["end"]].decode() for s in mine
        ]
        assert [score for _, _, score in attributes[name]] == [round(s.get("score", 1.0), 5) for s in mine]


def test_tokens_are_read_with_memmap_and_csv(small: Run, exported: Path) -> None:
    """As OLMo and the toolkit read them: raw uint16, and a table that says which document each range is."""
    corpus: dict[str, Records] = {}
    seen = 0
    for one in small.manifest("packing/all").objects:
        if not one.key.endswith(".npy"):
            continue
        name = f"part-0-{one.key.removesuffix('.npy')}"
        ids = np.memmap(exported / "tokens" / f"{name}.npy", dtype=np.uint16, mode="r")
        raw = gzip.decompress((exported / "tokens" / f"{name}.csv.gz").read_bytes()).decode()
        table = list(csv.reader(io.StringIO(raw, newline="")))
        index = small.rows("packing/all", one.key.removesuffix(".npy") + ".index")
        assert ids.tolist() == np.fromfile(f"{small.store.uri}/{one.path}", np.uint16).tolist()
        assert len(table) == len(index)
        for (start, end, identifier, src, loc), entry in zip(table, index, strict=True):
            assert (int(start), int(end)) == (entry["start"], entry["start"] + entry["length"])
            assert ids[int(end) - 1] == 50279
            rows = corpus.setdefault(src, read_lines(exported / src))
            assert rows[int(loc) - 1]["id"] == identifier and rows[int(loc) - 1]["source"] == entry["source"]
            seen += 1
        assert int(table[-1][1]) == len(ids)
    assert seen == small.manifest("mixing/all").ledger.kept.documents


def test_record_counts_what_is_there(small: Run, exported: Path) -> None:
    record = json.loads((exported / "export.json").read_text())
    files = every_file(exported)
    assert sorted(f["path"] for f in record["files"]) == sorted(set(files) - {"export.json"})
    assert all(f["size"] == len(files[f["path"]]) for f in record["files"])
    kept = small.manifest("mixing/all").ledger.kept.documents
    tokens = small.manifest("packing/all").counts["tokens"]
    assert record["parts"]["corpus"]["rows"] == record["parts"]["tokens"]["rows"] == kept
    assert record["parts"]["tokens"]["tokens"] == tokens
    assert record["parts"]["documents"]["rows"] == 170 + 42
    assert record["parts"]["attributes"]["rows"] == 6 * (170 + 42)
    assert "quality__quality__gopher_word_count" in record["attributes"]["quality"]
    assert record["artifacts"]["packing/all"] == str(small.built["packing/all"].ref)
