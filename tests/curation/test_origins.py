"""Repairing the small corpus: every stage's step is found again from the report, and sources that changed are told."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from olmo_core.artifacts.repair import Checked, check, repair
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.origins import CorpusOrigins
from olmo_core.workers import Workers
from tests.small_corpus import Run, build_all, load, passages, record, small_recipe, write_jsonl


@pytest.fixture
def copied(small: Run, tmp_path: Path) -> tuple[ArtifactStore, CorpusRecipe]:
    """A copy of the small corpus's store and sources, and its recipe with the copied places."""
    shutil.copytree(small.folder, tmp_path / "copy")
    return ArtifactStore(str(tmp_path / "copy" / "store")), load(tmp_path, small_recipe(tmp_path / "copy"))


def harm(small: Run, store: ArtifactStore) -> list[str]:
    """Damage one object of every artifact; return their paths."""
    paths = []
    for n, label in enumerate(small.built):
        one = small.manifest(label).objects[n % len(small.manifest(label).objects)]
        store.storage.delete(one.path) if n % 2 else store.storage.put(one.path, b"damaged")
        paths.append(one.path)
    return paths


def contents(store: ArtifactStore) -> dict[str, str]:
    return {one.path: store.sha256(one.path) for one in store.storage.walk("")}


def bad(found: list[Checked]) -> dict[str, str]:
    return {one.address.rsplit("/", 1)[0]: one.problem for one in found if not one.well}


def test_every_stage_is_repaired(
    small: Run, copied: tuple[ArtifactStore, CorpusRecipe], workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, recipe = copied
    before = contents(store)
    ran: Counter[str] = Counter()
    real = Workers.map

    def counted(self, function, jobs, name, **options):  # type: ignore[no-untyped-def]
        ran.update(job.stage for job in jobs)
        return real(self, function, jobs, name, **options)

    monkeypatch.setattr(Workers, "map", counted)
    damaged = harm(small, store)
    found = check(store, None, inputs=True)
    assert {d.path for one in found for d in one.damages} == set(damaged)
    assert bad(repair(store, found, CorpusOrigins(store, recipe), workers)) == {}
    assert contents(store) == before
    assert ran == dict.fromkeys(small.built, 1), "one shard of each stage"


def test_sources_that_changed_or_are_gone_or_unknown(
    small: Run, copied: tuple[ArtifactStore, CorpusRecipe], workers: Workers
) -> None:
    store, recipe = copied
    victim = {}
    for source in ("web", "wiki"):
        one = next(s for s in small.manifest(f"documents/{source}").shards)
        victim[source] = one.objects[0].path
        store.storage.put(victim[source], b"damaged")
    store.storage.put(small.manifest("language/web").objects[0].path, b"damaged")
    before = contents(store)
    found = check(store, None, inputs=True)
    told = bad(repair(store, found, CorpusOrigins(store), workers))
    assert "no artifact tells where the files of the source web lie: give the recipe file" in told["documents/web"]
    folder = Path(store.uri).parent
    for file in (folder / "web").iterdir():
        file.write_bytes(file.read_bytes() + b"\n")
    shutil.rmtree(folder / "wiki")
    told = bad(repair(store, found, CorpusOrigins(store, recipe), workers))
    assert "changed: the inventory says" in told["documents/web"]
    assert "are gone: wiki-" in told["documents/wiki"] and "nothing was changed" in told["documents/wiki"]
    assert "its input documents/w" in told["attributes/web-language"]
    assert contents(store) == before


def test_code_of_another_version_is_told(
    small: Run, copied: tuple[ArtifactStore, CorpusRecipe], workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    from olmo_core.curation.steps import tokens

    store, _ = copied
    store.storage.put(small.manifest("packing/all").objects[0].path, b"damaged")
    monkeypatch.setattr(tokens, "PACKING_VERSION", 99)
    told = bad(repair(store, check(store, None, inputs=True), CorpusOrigins(store), workers))
    assert "this code has version 99" in told["tokens/small"]


def test_without_a_report_a_recipe_leads_there(
    small: Run, copied: tuple[ArtifactStore, CorpusRecipe], workers: Workers
) -> None:
    store, recipe = copied
    store.storage.delete(small.built["report/all"].ref.manifest_path)
    before = contents(store)
    store.storage.put(small.manifest("selection/web").objects[0].path, b"damaged")
    found = check(store, None, inputs=True)
    told = bad(repair(store, found, CorpusOrigins(store), workers))
    assert "give the recipe of its run with --recipe" in next(iter(told.values()))
    assert bad(repair(store, found, CorpusOrigins(store, recipe), workers)) == {}
    assert contents(store) == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> Run:
    """One source, with a held-out split, a takedown list and an evaluation set. Tests may not change it."""
    folder = tmp_path_factory.mktemp("whole")
    texts = passages()[:40]
    write_jsonl(folder / "wiki" / "wiki.jsonl", [record(f"w{n}", text) for n, text in enumerate(texts)])
    write_jsonl(folder / "quiz" / "quiz.jsonl", [{"id": "q", "text": texts[3]}])
    (folder / "list.txt").write_text("wiki/w5\n")
    recipe = load(folder, with_all(folder))
    store = ArtifactStore(str(folder / "store"))
    return Run(folder=folder, store=store, recipe=recipe, planned={}, built=build_all(store, recipe, workers))


def with_all(folder: Path) -> dict[str, object]:
    quiz = {"name": "quiz", "kind": "jsonl", "paths": [f"{folder}/quiz/*"]}
    return small_recipe(
        folder,
        sources=[{"read": {"kind": "dolma-jsonl", "name": "wiki", "paths": [f"{folder}/wiki/*"]}}],
        held_out=[{"name": "validation", "fraction": 0.1}],
        takedown={"paths": [f"{folder}/list.txt"]},
        decontamination={"sets": [quiz]},
    )


@pytest.mark.parametrize("report", [True, False])
def test_evaluation_sets_takedown_and_held_out_are_repaired(
    report: bool, whole: Run, workers: Workers, tmp_path: Path
) -> None:
    """With the run's report and without it; without a recipe only what needs no file from outside."""
    folder = tmp_path / "copy"
    shutil.copytree(whole.folder, folder)
    store, recipe = ArtifactStore(str(folder / "store")), load(tmp_path, with_all(folder))
    if not report:
        store.storage.delete(whole.built["report/all"].ref.manifest_path)
        whole = Run(
            folder=whole.folder,
            store=whole.store,
            recipe=recipe,
            planned={},
            built={label: built for label, built in whole.built.items() if label != "report/all"},
        )
    before = contents(store)
    harm(whole, store)
    assert bad(repair(store, check(store, None, inputs=True), CorpusOrigins(store, recipe), workers)) == {}
    assert contents(store) == before
    for label in ("takedown-list/all", "evaluation-index/all", "takedown-copies/wiki", "mixing/validation"):
        store.storage.put(whole.manifest(label).objects[0].path, b"damaged")
    told = bad(repair(store, check(store, None, inputs=True), CorpusOrigins(store), workers))
    assert all("with --recipe" in told[f"attributes/{name}"] for name in ("takedown-list", "small-evaluation-index"))
    (folder / "list.txt").write_text("wiki/w6\n")
    shutil.rmtree(folder / "quiz")
    told = bad(repair(store, check(store, None, inputs=True), CorpusOrigins(store, recipe), workers))
    assert told["attributes/takedown-list"] and told["attributes/small-evaluation-index"]
    if report:
        assert "changed" in told["attributes/takedown-list"]
        assert "files of the evaluation set quiz" in told["attributes/small-evaluation-index"]
