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
from tests.small_corpus import Run, load, small_recipe


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
    assert "no artifact tells where the files of source web lie: give the recipe file" in told["documents/web"]
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
