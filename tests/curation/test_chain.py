"""The whole chain on a small corpus: what is planned is what is done, and nothing but recipe and inputs decides a byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import CORPUS_STAGES, SOURCE_STAGES
from olmo_core.curation.columns import declared
from olmo_core.documents.shards import read_shard
from olmo_core.workers import Workers
from tests.small_corpus import (
    Run,
    build_all,
    chain_of,
    load,
    passages,
    planned,
    record,
    small_recipe,
    write_jsonl,
    write_sources,
)

AFTER_SELECTION = {f"{stage}/all" for stage in CORPUS_STAGES}


@pytest.fixture
def copied(small: Run, tmp_path: Path) -> tuple[Path, ArtifactStore]:
    """The small corpus with its finished store, for tests that change something."""
    folder = tmp_path / "copy"
    shutil.copytree(small.folder, folder)
    return folder, ArtifactStore(str(folder / "store"))


def with_rule(folder: Path, name: str, value: float) -> dict[str, Any]:
    """The small recipe with another threshold in one rule of the web source."""
    data = json.loads(json.dumps(small_recipe(folder)))
    (rule,) = (r for r in data["sources"][0]["rules"] if r["name"] == name)
    rule["value"] = value
    return data  # type: ignore[no-any-return]


def plan_and_build(
    folder: Path, store: ArtifactStore, data: dict[str, Any], workers: Workers
) -> tuple[dict[str, Any], dict[str, Built]]:
    """Plan, build, and check that both agree: the same stages built, at least as many shards reused as was said."""
    recipe = load(folder, data)
    said = planned(store, recipe)
    done = build_all(store, recipe, workers)
    assert {label: p.action == "reuse" for label, p in said.items()} == {label: b.reused for label, b in done.items()}
    assert {label: p.ref for label, p in said.items()} == {label: b.ref for label, b in done.items()}
    for label, p in said.items():
        assert p.shards_reused <= done[label].shards_reused, label
    return said, done


def built_stages(done: dict[str, Built]) -> set[str]:
    return {label for label, b in done.items() if not b.reused}


def files(store: ArtifactStore) -> dict[str, float]:
    return {f.path: f.modified for f in store.storage.walk("")}


def test_first_everything_is_planned_and_built(small: Run) -> None:
    labels = [f"{stage}/{source}" for source in ("web", "wiki") for stage in SOURCE_STAGES]
    assert list(small.built) == [*labels, *(f"{stage}/all" for stage in CORPUS_STAGES)]
    assert list(small.planned) == list(small.built)
    for label, said in small.planned.items():
        done = small.built[label]
        assert (said.action, said.why, said.shards_reused) == ("build", ("never built",), 0)
        assert (done.reused, done.shards_reused, done.ref) == (False, 0, said.ref)
        if label != "packing/all":  # how many token shards there will be is known only when tokens are counted
            assert said.shards == len(done.manifest.shards), label
    assert len(small.manifest("documents/web").shards) >= 8


def test_every_ledger_balances_and_says_what_the_rows_say(small: Run) -> None:
    for label, built in small.built.items():
        built.manifest.ledger.balance(label)
        for shard in built.manifest.shards:
            shard.ledger.balance(f"{label}/{shard.key}")
        assert small.store.verify(built.ref) == [], label
    for source in ("web", "wiki"):
        documents = small.rows(f"documents/{source}")
        kept = small.manifest(f"documents/{source}").ledger.kept
        assert (kept.documents, kept.bytes) == (len(documents), sum(len(d["text"].encode()) for d in documents))
        chosen = [
            len(d["text"].encode())
            for d, s in zip(documents, small.rows(f"selection/{source}"), strict=True)
            if s["keep"]
        ]
        kept = small.manifest(f"selection/{source}").ledger.kept
        assert (kept.documents, kept.bytes) == (len(chosen), sum(chosen))
    verdicts = small.rows("near-duplicates/all")
    assert small.manifest("near-duplicates/all").ledger.kept.documents == sum(v["keep"] is True for v in verdicts)
    assert small.manifest("near-duplicates/all").ledger.read.documents == sum(v["keep"] is not None for v in verdicts)
    corpus = small.rows("mixing/all")
    assert small.manifest("mixing/all").ledger.kept.documents == len(corpus)
    assert small.manifest("tokenization/all").ledger.kept.bytes == sum(len(d["text"].encode()) for d in corpus)
    assert small.manifest("packing/all").ledger.kept.documents == len(corpus)


def test_columns_are_those_that_rules_are_checked_against(small: Run) -> None:
    for stage, columns in declared(small.recipe).items():
        one = small.manifest(f"{stage}/web").objects[0]
        schema = read_shard(small.store.storage, one.path).schema
        assert list(columns) == schema.names
        for name, holds in columns.items():
            kind = str(schema.field(name).type)
            fits = {
                "number": ("int", "float", "double"),
                "boolean": ("bool",),
                "text": ("string",),
                "spans": ("list<",),
            }
            assert kind.startswith(fits[holds]), (name, kind, holds)


def test_one_worker_and_another_folder_change_no_byte(small: Run, tmp_path: Path) -> None:
    """Also a proof that no absolute path gets into an artifact: sources and store lie elsewhere."""
    elsewhere = tmp_path / "quite" / "another place"
    for source in ("web", "wiki"):
        shutil.copytree(small.folder / source, elsewhere / source)
    store = ArtifactStore(str(tmp_path / "other-store"))
    with Workers(1) as single:
        again = build_all(store, load(elsewhere, small_recipe(elsewhere)), single)
    for label, built in again.items():
        before = {o.key: (o.sha256, o.digest) for o in small.manifest(label).objects}
        assert {o.key: (o.sha256, o.digest) for o in built.manifest.objects} == before, label
        assert built.ref == small.built[label].ref


def test_nothing_changed_nothing_built(small: Run, workers: Workers) -> None:
    before = files(small.store)
    data = small_recipe(small.folder)
    _, done = plan_and_build(small.folder, small.store, data, workers)
    assert built_stages(done) == set()
    assert files(small.store) == before


def test_a_threshold_rebuilds_selection_and_what_follows(copied: tuple[Path, ArtifactStore], workers: Workers) -> None:
    folder, store = copied
    before = files(store)
    said, done = plan_and_build(folder, store, with_rule(folder, "too_few_words", 250), workers)
    assert built_stages(done) == {"selection/web"} | AFTER_SELECTION
    assert said["selection/web"].why == ("recipe rules[1].value: 20.0 -> 250.0",)
    assert said["near-duplicates/all"].why[0].startswith("input web-selection: ")
    assert done["selection/web"].manifest.ledger.dropped["too_few_words"].documents > 10
    assert all(files(store)[path] == modified for path, modified in before.items()), (
        "nothing that stood was written again"
    )


def test_a_language_threshold_rebuilds_tags_only_below_the_floor(
    copied: tuple[Path, ArtifactStore], small: Run, workers: Workers
) -> None:
    folder, store = copied
    above = planned(store, load(folder, with_rule(folder, "language", 0.25)))
    assert {label for label, p in above.items() if p.action == "build"} == {"selection/web"} | AFTER_SELECTION
    said, done = plan_and_build(folder, store, with_rule(folder, "language", 0.1), workers)
    tags = {f"{stage}/web" for stage in ("quality", "content", "pii", "signatures")}
    assert built_stages(done) == tags | {"selection/web"} | AFTER_SELECTION
    for label in tags:
        assert said[label].why == ("recipe floor: 0.2 -> 0.1",)
        assert done[label].shards_reused == 0
    assert 0 < done["quality/web"].manifest.counts["below_floor"] < small.manifest("quality/web").counts["below_floor"]


def test_one_more_file_rebuilds_its_shard_only(copied: tuple[Path, ArtifactStore], workers: Workers) -> None:
    folder, store = copied
    write_jsonl(
        folder / "web" / "more.jsonl",
        [record(f"new-{i}", text + "One more.") for i, text in enumerate(passages(2500)[:11])],
    )
    said, done = plan_and_build(folder, store, small_recipe(folder), workers)
    assert built_stages(done) == {f"{stage}/web" for stage in SOURCE_STAGES} | AFTER_SELECTION
    for stage in SOURCE_STAGES[1:]:
        label = f"{stage}/web"
        assert (len(done[label].manifest.shards), done[label].shards_reused) == (12, 11), label
        assert (said[label].shards, said[label].shards_reused) == (12, 11), label
    assert done["documents/web"].manifest.ledger.kept.documents == 170 + 11
    unchanged = done["mixing/all"].shards_reused
    assert 0 < unchanged < 15, "shards whose documents' fate is the same are taken as they are"
    assert said["inventory/web"].why[0].startswith("recipe files: ")


def test_a_changed_file_rebuilds_its_shard_only(copied: tuple[Path, ArtifactStore], workers: Workers) -> None:
    folder, store = copied
    path = folder / "web" / "web-0.jsonl"
    path.write_text(path.read_text().replace("Python", "Pythia"))
    said, done = plan_and_build(folder, store, small_recipe(folder), workers)
    for stage in SOURCE_STAGES[1:]:
        assert (said[f"{stage}/web"].shards_reused, done[f"{stage}/web"].shards_reused) == (10, 10)


def test_a_source_of_which_nothing_stays_goes_through(
    copied: tuple[Path, ArtifactStore], small: Run, workers: Workers
) -> None:
    """No tokens to estimate by, nothing to show: the other sources come out as they would alone."""
    folder, store = copied
    write_jsonl(folder / "hollow" / "short.jsonl", [record("short", "Four words of text.")])
    write_jsonl(folder / "hollow" / "empty.jsonl", [])
    data = small_recipe(folder)
    data["sources"].append({"read": {"kind": "dolma-jsonl", "name": "hollow", "paths": [f"{folder}/hollow/*"]}})
    data["sources"][-1]["rules"] = data["sources"][0]["rules"]
    _, done = plan_and_build(folder, store, data, workers)
    assert done["mixture/all"].manifest.counts["sources"]["hollow"]["planned_tokens"] == 0
    before = {o.key: o.digest for o in small.manifest("mixing/all").objects}
    after = {o.key: o.digest for o in done["mixing/all"].manifest.objects}
    assert {key: digest for key, digest in after.items() if not key.startswith("hollow/")} == before
    assert done["packing/all"].manifest.counts == small.manifest("packing/all").counts
    page = store.storage.read(done["report/all"].manifest.object("report.md").path).decode()
    assert "hollow: symbols" in page, "a rule that did nothing"


def test_a_forced_rebuild_of_any_stage_gives_the_same_bytes(
    copied: tuple[Path, ArtifactStore], workers: Workers
) -> None:
    folder, store = copied
    for step in chain_of(store, load(folder, small_recipe(folder))).steps():
        if step.source != "web":
            assert build(store, step, workers, rebuild=True).same_bytes is True, step.label


def test_planning_leaves_the_store_as_it_is(tmp_path: Path) -> None:
    write_sources(tmp_path)
    store = ArtifactStore(str(tmp_path / "store"))
    assert {p.action for p in planned(store, load(tmp_path, small_recipe(tmp_path))).values()} == {"build"}
    assert files(store) == {}
