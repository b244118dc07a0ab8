"""Exports of the small corpus: files read back with plain Python, with our own reader, and as a trainer reads tokens."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.command.main import main
from olmo_core.artifacts.build import build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.content import ContentRecipe
from olmo_core.curation.corpus_recipe import CorpusRecipe, SourceRecipe
from olmo_core.curation.steps.inputs import document_objects, documents_step, take_inventory
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.documents.shards import read_shard
from olmo_core.dolma_export.export import Exported, export_dolma
from olmo_core.errors import IntegrityError, RecipeError, StorageError
from olmo_core.report.explain import manifests_of
from olmo_core.storage import Storage
from olmo_core.workers import Workers
from tests.small_corpus import Run, build_all, load, small_recipe

STAGES = ["content", "language", "near-duplicates", "pii", "quality", "selection"]
ROOT = Path(__file__).resolve().parents[2]
Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def exported(small: Run, workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus, exported. Tests may not change it."""
    folder = tmp_path_factory.mktemp("export") / "dolma"
    done = export_dolma(small.store, "small", str(folder), workers)
    assert (len(done.found), done.removed) == (0, ())
    return folder


def read_lines(path: Path) -> Records:
    """Lines at line feeds only: U+2028 and its like are characters of a text."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).split(b"\n")[:-1]]


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def keys_of(small: Run, source: str) -> list[str]:
    return [one.key for one in document_objects(small.manifest(f"documents/{source}"))]


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


def test_another_folder_and_one_worker_give_the_same_bytes(small: Run, exported: Path, tmp_path: Path) -> None:
    with Workers(1) as single:
        export_dolma(small.store, "small", str(tmp_path / "elsewhere" / "x"), single)
    assert every_file(tmp_path / "elsewhere" / "x") == every_file(exported)
    assert (exported / "web/documents" / f"{keys_of(small, 'web')[0]}.jsonl.gz").read_bytes()[4:8] == b"\0" * 4


def test_only_what_is_damaged_is_written_again(small: Run, exported: Path, workers: Workers, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    victims = sorted(p for p in every_file(folder) if p.endswith((".gz", ".npy")))[::20]
    flipped, cut, gone = (folder / victims[n] for n in (0, 1, 2))
    flipped.write_bytes(flipped.read_bytes()[:-9] + b"damaged!!")
    cut.write_bytes(cut.read_bytes()[:50])
    gone.unlink()
    times = {p: (folder / p).stat().st_mtime_ns for p in every_file(folder)}
    done = export_dolma(small.store, "small", str(folder), workers)
    assert {one.path for one in done.written} == set(victims[:3])
    assert every_file(folder) == every_file(exported)
    same = {p for p, at in times.items() if (folder / p).stat().st_mtime_ns == at}
    assert same == set(every_file(folder)) - set(victims[:3]) - {"export.json"}
    assert export_dolma(small.store, "small", str(folder), workers).written == ()


@pytest.fixture
def copied(small: Run, tmp_path: Path) -> tuple[Path, ArtifactStore]:
    """The small corpus with its store, for tests that damage or change it."""
    shutil.copytree(small.folder, tmp_path / "run")
    return tmp_path / "run", ArtifactStore(str(tmp_path / "run" / "store"))


def test_a_killed_export_goes_on_where_it_was(
    copied: tuple[Path, ArtifactStore], exported: Path, small: Run, workers: Workers, tmp_path: Path
) -> None:
    """SIGKILL while one shard cannot be read on: no record, no half file; the next run writes the rest."""
    _, store = copied
    held = Path(store.uri) / small.manifest("documents/wiki").objects[0].path
    content = held.read_bytes()
    held.unlink()
    os.mkfifo(held)  # whoever opens it waits for a writer
    folder = tmp_path / "out"
    words = ["export", "dolma", "small", "--to", str(folder), "--workers", "2", "--store", store.uri]
    command = [sys.executable, "-m", "flows.command.main", *words]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    expected = set(every_file(exported))
    waiting = {p for p in expected if p.startswith("wiki/") and keys_of(small, "wiki")[0] in p}
    deadline = time.monotonic() + 120
    try:
        while not {*expected} - waiting - {"export.json"} <= set(every_file(folder) if folder.exists() else ()):
            assert process.poll() is None and time.monotonic() < deadline, process.stderr
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    held.unlink()
    held.write_bytes(content)
    files = every_file(folder)
    assert "export.json" not in files and not any(".tmp-" in p for p in files if p in expected)
    done = export_dolma(store, "small", str(folder), workers)
    assert {one.path for one in done.written} >= waiting and len(done.found) >= len(expected) - len(waiting) - 40
    assert every_file(folder) == every_file(exported)


def test_an_export_follows_its_corpus(
    copied: tuple[Path, ArtifactStore], exported: Path, workers: Workers, tmp_path: Path
) -> None:
    """Another threshold, exported to the same folder: what changed is written, what is gone is removed, the rest stays."""
    run, store = copied
    folder = tmp_path / "out"
    shutil.copytree(exported, folder)
    data = small_recipe(run, tokens={"shard_tokens": 60000})
    rules = [r | {"value": 250} if r["name"] == "too_few_words" else r for r in data["sources"][0]["rules"]]
    data["sources"][0]["rules"] = rules
    build_all(store, load(run, data), workers)
    done = export_dolma(store, "small", str(folder), workers)
    paths = {one.path for one in done.written}
    assert set(done.removed) == {"tokens/part-0-00002.npy", "tokens/part-0-00002.csv.gz"}
    assert not any("/documents/" in p and not p.startswith("corpus/") for p in paths)
    assert {p.split("/")[2] for p in paths if "/attributes/" in p} == {"selection", "near-duplicates"}
    fresh = tmp_path / "fresh"
    export_dolma(store, "small", str(fresh), workers)
    assert every_file(folder) == every_file(fresh)


def test_parts_come_together_in_one_folder(small: Run, exported: Path, workers: Workers, tmp_path: Path) -> None:
    folder = str(tmp_path / "out")
    first = export_dolma(small.store, "small", folder, workers, parts=("documents",))
    assert {one.part for one in first.written} == {"documents"}
    export_dolma(small.store, "small", folder, workers, parts=("tokens", "corpus"))
    assert set(json.loads((tmp_path / "out" / "export.json").read_text())["parts"]) == {"corpus", "documents", "tokens"}
    last = export_dolma(small.store, "small", folder, workers)
    assert {one.part for one in last.written} == {"attributes"}
    assert every_file(tmp_path / "out") == every_file(exported)


def test_parts_of_two_runs_do_not_mix(
    copied: tuple[Path, ArtifactStore], exported: Path, workers: Workers, tmp_path: Path
) -> None:
    run, store = copied
    shutil.copytree(exported, tmp_path / "out")
    build_all(store, load(run, small_recipe(run, seed=8)), workers)
    with pytest.raises(RecipeError, match="holds attributes, corpus, documents of another run of small"):
        export_dolma(store, "small", str(tmp_path / "out"), workers, parts=("tokens",))
    assert every_file(tmp_path / "out") == every_file(exported)


def test_foreign_folders_are_left_alone(small: Run, exported: Path, workers: Workers, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(RecipeError, match=r"mine is not empty \(there is thesis.txt\) and holds no export"):
        export_dolma(small.store, "small", str(tmp_path / "mine"), workers)
    (tmp_path / "mine" / "export.json").write_text('{"files": "of mine"}')
    with pytest.raises(RecipeError, match="mine/export.json is no record of an export"):
        export_dolma(small.store, "small", str(tmp_path / "mine"), workers)
    other = json.loads((exported / "export.json").read_text())
    other["report"]["name"] = "large"
    (tmp_path / "mine" / "export.json").write_text(json.dumps(other))
    with pytest.raises(RecipeError, match="holds an export of the corpus 'large', not of 'small'"):
        export_dolma(small.store, "small", str(tmp_path / "mine"), workers)
    for place in (small.store.uri, f"{small.store.uri}/export", str(Path(small.store.uri).parent)):
        with pytest.raises(RecipeError, match="would lie in the store"):
            export_dolma(small.store, "small", place, workers)
    with pytest.raises(RecipeError, match="there is no report/nothing"):
        export_dolma(small.store, "nothing", str(tmp_path / "new"), workers)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["export.json", "mine", "thesis.txt"]


def damaged(store: ArtifactStore, label: str, do: str, match: str, workers: Workers, to: Path) -> None:
    """Damage the first object of an artifact, and expect the export to say so and not to be done."""
    manifest = manifests_of(store, "small")[label]
    one = next(o for o in manifest.objects if not o.key.endswith(".index"))
    path = Path(store.uri) / one.path
    if do == "remove":
        path.unlink()
    elif do == "flip":
        path.write_bytes(bytes(b ^ (i == one.size // 2) for i, b in enumerate(path.read_bytes())))
    else:
        table = read_shard(store.storage, one.path)
        table = table.slice(1) if do == "shorten" else pa.concat_tables([table, table.slice(0, 1)])
        with store.storage.writer(one.path) as (handle, _):
            pq.write_table(table, handle)
    with pytest.raises((IntegrityError, StorageError), match=match):
        export_dolma(store, "small", str(to), workers)
    assert not (to / "export.json").exists()


@pytest.mark.parametrize(
    ("label", "do", "match"),
    [
        ("quality/web", "remove", "attributes/web-quality/.*not there"),
        ("quality/web", "flip", "attributes/web-quality/.*is damaged"),
        ("pii/wiki", "shorten", "attributes/wiki-pii/.* has sha256"),
        ("near-duplicates/all", "lengthen", "attributes/small-near-duplicates/.*has sha256 .*its manifest says"),
        ("documents/web", "shorten", "documents/web/.*has sha256 .*its manifest says"),
        ("mixing/all", "shorten", "corpus/small/.*its manifest says"),
        ("packing/all", "flip", "tokens/small/.*has sha256 .*is damaged"),
    ],
)
def test_a_damaged_store_is_not_exported(
    copied: tuple[Path, ArtifactStore], workers: Workers, tmp_path: Path, label: str, do: str, match: str
) -> None:
    """The toolkit's failures C and D: there missing and short attribute files mean that nothing is filtered."""
    damaged(copied[1], label, do, match, workers, tmp_path / "out")


@pytest.mark.s3
def test_a_bucket_holds_the_same_bytes(small: Run, exported: Path, workers: Workers, bucket: str) -> None:
    to = f"s3://{bucket}/exports/small"
    first: Exported = export_dolma(small.store, "small", to, workers)
    storage = Storage(to)
    expected = every_file(exported)
    assert {one.path: storage.read(one.path) for one in storage.walk("")} == expected
    assert first.url == f"{to}/export.json" and len(first.written) == len(expected) - 1
    storage.delete("web/mix.json")
    again = export_dolma(small.store, "small", to, workers)
    assert [one.path for one in again.written] == ["web/mix.json"]
    assert {one.path: storage.read(one.path) for one in storage.walk("")} == expected


def test_the_command_tells_what_it_did(
    small: Run, exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", "dolma", "small", "--to", str(tmp_path / "out"), "--store", small.store.uri, "--workers", "1"]
    assert main([*words, "--only", "documents,tokens", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["export"] == f"{tmp_path}/out/export.json" and set(said["parts"]) == {"documents", "tokens"}
    assert said["parts"]["documents"]["lines"] == 212 and said["written"] == 14 + 6 and said["found"] == 0
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "attributes" in out and "written now" in out and f"export  {tmp_path}/out/export.json" in out
    assert every_file(tmp_path / "out") == every_file(exported)
    for wrong in (["--only", "documents,images"], ["--only", ""], ["--workers", "0"], ["--to", small.store.uri]):
        assert main([*words, *wrong]) == 1
    errors = capsys.readouterr().err
    assert "--only documents,images: it is one or more of documents, attributes, corpus, tokens" in errors
    assert "workers: 0; at least 1 is needed" in errors and "would lie in the store" in errors
