"""Exporting: the same bytes wherever and however often, after kills and damage, and nothing written where it must not be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.command.main import main
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.documents.shards import read_shard
from olmo_core.dolma_export.export import Exported, export_dolma
from olmo_core.dolma_export.files import Job, Target
from olmo_core.dolma_export.shards import write_shard
from olmo_core.errors import IntegrityError, RecipeError, StorageError
from olmo_core.report.explain import manifests_of
from olmo_core.storage import Storage
from olmo_core.workers import Workers
from tests.dolma_export.reading import every_file, keys_of, read_lines
from tests.small_corpus import Run, build_all, load, small_recipe

ROOT = Path(__file__).resolve().parents[2]


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
    deadline = time.monotonic() + 600
    try:
        # By name: what a running export is about to rename cannot be read.
        while not {*expected} - waiting - {"export.json"} <= {str(p.relative_to(folder)) for p in folder.rglob("*")}:
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
    gone = set(every_file(exported)) - set(every_file(folder))
    assert set(done.removed) == gone and {"tokens/part-0-00002.npy", "tokens/part-0-00002.csv.gz"} <= gone
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


def test_documents_that_no_rule_dropped_do_not_leave_the_store(tmp_path: Path) -> None:
    """A document that was taken down is in the documents artifact still: it has no line, and lines stay aligned."""
    storage = Storage(str(tmp_path / "store"))
    documents = {name: ["a", "b", "c", "d"] for name in ("id", "text", "source", "added", "created")}
    tables = {
        "documents": pa.table({**documents, "metadata": ["{}"] * 4}),
        "selection": pa.table({"keep": [True, False, False, True], "reason": [None, "taken_down", "short", None]}),
    }
    stored = {}
    for name, table in tables.items():
        with storage.writer(f"{name}.parquet") as (handle, written):
            pq.write_table(table, handle)
        stored[name] = {"path": written.path, "sha256": written.sha256, "rows": 4}
    paths = {"documents.gz": None, "selection.gz": "selection"}
    targets = [Target(path=path, part="documents", made_from="x") for path in paths]
    inputs = {
        "documents": stored["documents"],
        "selection": stored["selection"],
        "attributes": {"selection": stored["selection"]},
        "stages": paths,
        "withheld": ["taken_down"],
    }
    job = Job(
        name="j",
        store=storage.uri,
        to=str(tmp_path / "out"),
        targets=tuple(targets),
        known={},
        inputs=inputs,
        work=write_shard,
    )
    assert [one.rows for one in write_shard(job, targets)] == [3, 3]
    for path in paths:
        assert [line["id"] for line in read_lines(tmp_path / "out" / path)] == ["a", "c", "d"]
    (kept, dropped, _) = read_lines(tmp_path / "out" / "selection.gz")
    assert kept["attributes"] == {"selection__selection__keep": [[0, 1, 1.0]]}
    assert dropped["attributes"]["selection__selection__reason__short"] == [[0, 1, 1.0]]


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
    for wrong in (["--only", "documents,images"], ["--only", ""]):
        assert main([*words, *wrong]) == 2
    with pytest.raises(SystemExit) as ended:
        main([*words, "--workers", "0"])
    assert ended.value.code == 2
    assert main([*words, "--to", small.store.uri]) == 1
    assert main([*words, "--store", str(tmp_path / "nothing")]) == 1
    errors = capsys.readouterr().err
    assert "--only documents,images: it is one or more of documents, attributes, corpus, tokens" in errors
    assert "0: give a whole number of at least 1" in errors and "would lie in the store" in errors
    assert f"there is no store at {tmp_path}/nothing" in errors
