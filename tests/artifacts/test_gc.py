"""Garbage collection: what stays, what goes, in which order, and builds that run at the same time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts import build as building
from olmo_core.artifacts import gc, marks
from olmo_core.artifacts.build import build
from olmo_core.artifacts.gc import Collection, collect
from olmo_core.artifacts.reach import Grace
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.step import Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError, RecipeError, StorageError
from olmo_core.storage import Storage
from olmo_core.workers import Workers
from tests.artifacts.toy import ToyRecipe, toy

SHARDS = {f"k{i}": [i, i + 1, i + 2] for i in range(4)}
DAY = 86_400.0
ONE_DAY = Grace(artifact_seconds=DAY, attempt_seconds=DAY)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(1) as pool:
        yield pool


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


def later(store: ArtifactStore, days: float = 2, **options: Any) -> Collection:
    """Collect, with deletion and a grace of one day, as if days had gone by."""
    return collect(store, delete=True, now=time.time() + days * DAY, **{"grace": ONE_DAY, **options})


def paths(store: ArtifactStore) -> set[str]:
    return {one.path for one in store.storage.walk("")}


def whole(store: ArtifactStore) -> bool:
    """Say whether every finished artifact has its objects and inputs, and no mark of a collection is left."""
    for manifest in store.finished():
        assert store.verify(manifest.ref) == []
        assert all(store.find(parent) for parent in manifest.inputs.values())
    return not store.storage.exists(gc.RUNNING)


def chain(
    store: ArtifactStore, workers: Workers, factor: int = 1, shards: Any = None
) -> tuple[ArtifactRef, ArtifactRef]:
    """Build `one`, and `two` from it."""
    first = build(store, toy(shards or SHARDS, ToyRecipe(factor=factor), stage="one"), workers).ref
    second = build(store, toy(SHARDS, stage="two", inputs={"in": first}), workers).ref
    return first, second


def test_tags_keep_lineages_and_the_rest_goes(store: ArtifactStore, workers: Workers) -> None:
    kept = chain(store, workers)
    gone = chain(store, workers, factor=2)
    store.tag(kept[1], "latest")
    before = paths(store)
    shown = collect(store, grace=ONE_DAY, now=time.time() + 2 * DAY)
    assert paths(store) == before and not shown.deleted, "a dry run deletes nothing"
    did = later(store)
    assert did.waste == shown.waste and did.deleted and did.kept == 2 and whole(store)
    assert {w.address for w in did.waste if w.what == "artifact"} == {ref.address for ref in gone}
    assert before - paths(store) == {p for p in before if any(p.startswith(ref.address) for ref in gone)} | {
        p for p in before if p.endswith((".done.json", marks.STARTED))
    }, "of what stays, only sidecars and marks go"
    assert did.objects == len(before - paths(store))
    assert did.bytes == sum((0, *(w.bytes for w in did.waste))) > 0
    assert not (Path(store.uri) / gone[0].address).exists(), "no empty folders are left"
    assert later(store, days=3).waste == ()


def test_grace_use_and_keep_spare_what_no_tag_reaches(
    store: ArtifactStore, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = chain(store, workers)
    store.tag(build(store, toy(SHARDS, stage="three"), workers).ref, "latest")
    assert later(store, days=0.9).waste == (), "younger than a day"
    kept = later(store, keep=[second])
    assert kept.kept == 3 and not [w for w in kept.waste if w.what == "artifact"]
    step = toy(SHARDS, ToyRecipe(), stage="one")
    assert step.ref == first
    monkeypatch.setattr(marks, "_STALE", -1.0)  # as if it had been finished long ago
    assert build(store, step, workers).reused
    assert store.storage.exists(f"{first.address}/{marks.USED}")
    used = Path(store.uri) / first.address / marks.USED
    os.utime(used, (time.time() + 1.5 * DAY,) * 2)
    assert {w.address for w in later(store).waste} == {second.address}, "used half a day ago, counted from then"
    assert whole(store) and store.find(first)
    assert {w.address for w in later(store, days=4).waste} == {first.address}
    assert not used.parent.exists()


def test_stages_of_a_run_of_some_days_stay_by_default(store: ArtifactStore, workers: Workers) -> None:
    """A run tags at its end; until then only their age keeps its finished stages."""
    first, second = chain(store, workers)
    other(store, workers)
    later(store, days=6, grace=Grace())
    assert store.find(first) and store.find(second) and whole(store)


def test_objects_shared_by_reference_stay(store: ArtifactStore, workers: Workers) -> None:
    old = build(store, toy(SHARDS), workers)
    new = build(
        store,
        toy({**SHARDS, "k9": [9], "k0": [5]}, inputs={"x": build(store, toy({}, stage="x"), workers).ref}),
        workers,
    )
    assert new.shards_reused == 3
    store.tag(new.ref, "latest")
    shared = {o.path for o in new.manifest.objects} & {o.path for o in old.manifest.objects}
    did = later(store)
    assert store.find(old.ref) is None and whole(store)
    assert {p for p in paths(store) if p.startswith(old.ref.address)} == shared and len(shared) == 3
    assert {w.what for w in did.waste if w.address == old.ref.address} == {"artifact"}
    assert later(store, days=5).waste == ()


def test_attempts_and_unlisted_objects_go_when_nothing_was_written_for_a_day(
    store: ArtifactStore, workers: Workers
) -> None:
    done = build(store, toy(SHARDS), workers)
    store.tag(done.ref, "latest")
    broken = toy(SHARDS, ToyRecipe(lose=True), stage="broken")
    with pytest.raises(IntegrityError):
        build(store, broken, workers)
    build(store, toy(SHARDS), workers, rebuild=True)  # leaves an attempt whose objects nobody lists
    store.storage.put(f"{broken.ref.address}/attempt-x/old.parquet", b"x" * 100)
    listed = {o.path for o in done.manifest.objects} | {done.ref.manifest_path} | set(store.all_tags())
    assert collect(store, now=time.time() + 0.9 * DAY).waste == ()
    newer = next(iter(sorted((Path(store.uri) / broken.ref.address / "attempt-x").iterdir())))
    os.utime(newer, (time.time() + 2 * DAY,) * 2)
    later(store)
    assert paths(store) == listed | {f"{broken.ref.address}/attempt-x/old.parquet"}
    later(store, grace=Grace(artifact_seconds=DAY, attempt_seconds=-3 * DAY))
    assert paths(store) == listed and whole(store)


def test_unfinished_writes_go(store: ArtifactStore, workers: Workers) -> None:
    store.tag(build(store, toy(SHARDS), workers).ref, "latest")
    old, new = (Path(store.uri) / "attributes" / f".tmp-{n}" for n in ("old", "new"))
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(new, (time.time() + 2 * DAY,) * 2)
    assert later(store).leftovers == 1 and not old.exists() and new.exists()


def test_what_cannot_be_read_stops_it_before_anything_is_deleted(store: ArtifactStore, workers: Workers) -> None:
    first, second = chain(store, workers)
    with pytest.raises(RecipeError, match="nothing has a tag, so all 2 artifacts would go"):
        later(store)
    tag = store.storage
    store.tag(first, "latest")
    for path, raw in (
        (second.manifest_path, b"{}"),
        ("refs/attributes/x-one/latest.json", b"{"),
        (f"{second.address}/attempt-x/{marks.STARTED}", b"[]"),
    ):
        before = tag.read(path) if tag.exists(path) else None
        tag.put(path, raw)
        state = paths(store)
        with pytest.raises(IntegrityError):
            collect(store, delete=True)
        assert paths(store) == state
        tag.delete(path) if before is None else tag.put(path, before)
    store.storage.put(gc.RUNNING, b'{"host": "elsewhere"}')
    with pytest.raises(StorageError, match="elsewhere.*delete .*gc-running"):
        later(store)


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("step", range(1, 12))
def test_a_crash_after_any_deletion_leaves_no_manifest_without_its_objects(
    store: ArtifactStore, workers: Workers, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    kept = chain(store, workers)
    chain(store, workers, factor=2, shards={"k0": [0, 1, 2], "other": [3]})
    store.tag(kept[1], "latest")
    real, count = Storage.delete, [0]

    def delete(self: Storage, path: str) -> None:
        count[0] += 1
        if count[0] > step and path != gc.RUNNING:
            raise Interrupted
        real(self, path)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "delete", delete)
        with pytest.raises(Interrupted):
            later(store)
    assert whole(store)
    later(store)
    assert whole(store) and {m.ref for m in store.finished()} == set(kept)


# Builds at the same time: `at` lets something happen just before a call of a function.


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def patch(owner: Any, name: str, action: Callable[[], Any], *, call: int = 1) -> None:
        real, calls = getattr(owner, name), [0]

        def instead(*args: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == call:
                action()
            return real(*args, **options)

        monkeypatch.setattr(owner, name, instead)

    return patch


def other(store: ArtifactStore, workers: Workers) -> None:
    store.tag(build(store, toy({}, stage="kept"), workers).ref, "latest")


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make all that is in a store now two days old."""

    def age(store: ArtifactStore) -> None:
        for file in Path(store.uri).rglob("*"):
            if file.is_file():
                os.utime(file, (file.stat().st_mtime - 2 * DAY,) * 2)
        monkeypatch.setattr(marks, "finished_at", lambda manifest: 0.0)

    return age  # type: ignore[return-value]


MOMENTS = ["start", "reusable", "adoptable", "_still_there", "run", "publish"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_collection_at_any_moment_of_a_build_that_reuses_shards(
    store: ArtifactStore, workers: Workers, at: Callable[..., None], aged: Callable[..., None], moment: str
) -> None:
    """The collection runs as a whole just before something that the build does."""
    old = build(store, toy(SHARDS), workers).ref
    new = toy({**SHARDS, "k9": [9]}, inputs={"x": build(store, toy({"a": [1]}, stage="x"), workers).ref})
    other(store, workers)
    aged(store)
    owner = {"start": marks, "publish": ArtifactStore, "run": Workers}.get(moment, building)
    did: list[Collection] = []
    at(owner, "map" if moment == "run" else moment, lambda: did.append(collect(store, delete=True)))
    try:
        built = build(store, new, workers)
    except Exception as error:
        # Its input went before anything said that it was wanted: an error, and nothing half done.
        assert moment == "start" and "not finished" in str(error)
        assert store.find(new.ref) is None and whole(store)
        return
    assert did and moment != "start" and whole(store)
    assert built.shards_reused == 4
    assert store.find(old) if moment in MOMENTS[1:3] else True, "while it chooses, nothing of that name goes"
    assert later(store).kept == 1


def test_a_build_between_the_collections_two_steps_gets_its_input_back(
    store: ArtifactStore, workers: Workers, at: Callable[..., None], aged: Callable[..., None]
) -> None:
    """The build notes its use after the collection has decided and before it deletes: the manifest comes back."""
    step = toy(SHARDS)
    build(store, step, workers)
    other(store, workers)
    aged(store)
    used: list[bool] = []
    manifest = store.manifest(step.ref)

    def use() -> None:
        used.append(marks.use(store, manifest))

    at(gc._Run, "delete_artifacts", use)
    did = collect(store, delete=True)
    assert used == [True] and did.spared == (step.ref.address,)
    assert whole(store) and build(store, step, workers).reused


def test_a_build_that_comes_too_late_makes_it_again(
    store: ArtifactStore, workers: Workers, at: Callable[..., None], aged: Callable[..., None]
) -> None:
    """The manifest was found, and is gone when the use is noted: nothing is reused of it."""
    step = toy(SHARDS)
    build(store, step, workers)
    other(store, workers)
    aged(store)
    at(building.marks, "use", lambda: collect(store, delete=True))
    built = build(store, step, workers)
    assert not built.reused and built.shards_reused == 0 and whole(store)


def test_new_artifacts_and_tags_between_the_two_steps_are_seen(
    store: ArtifactStore, workers: Workers, at: Callable[..., None], aged: Callable[..., None]
) -> None:
    first, second = chain(store, workers)
    other(store, workers)
    aged(store)
    at(gc._Run, "delete_artifacts", lambda: store.tag(second, "wanted"))
    did = collect(store, delete=True)
    assert set(did.spared) == {first.address, second.address} and whole(store)


def test_a_tag_that_comes_too_late_is_refused_and_the_old_one_stays(
    store: ArtifactStore, workers: Workers, at: Callable[..., None], aged: Callable[..., None]
) -> None:
    _, second = chain(store, workers)
    good = build(store, toy({"a": [1]}, stage="two"), workers).ref
    store.tag(good, "latest")
    aged(store)
    at(Storage, "put", lambda: collect(store, delete=True))
    with pytest.raises(RecipeError, match="has just deleted it"):
        store.tag(second, "latest")
    assert store.tags("attributes", "x-two") == {"latest": good} and whole(store)


def test_a_silent_build_that_was_taken_for_dead_publishes_nothing(
    store: ArtifactStore, workers: Workers, at: Callable[..., None]
) -> None:
    other(store, workers)
    step = toy(SHARDS)
    at(ArtifactStore, "publish", lambda: later(store))
    with pytest.raises(IntegrityError, match="garbage collection deleted 4 objects of this run"):
        build(store, step, workers)
    assert store.find(step.ref) is None and whole(store)
    assert build(store, step, workers).shards_reused == 0


def unfinished(store: ArtifactStore, workers: Workers) -> Step:
    """A step whose shards are done and whose manifest was never put."""
    step = toy(SHARDS)
    build(store, step, workers)
    store.storage.delete(step.ref.manifest_path)
    return step


@pytest.mark.parametrize("moment", [*MOMENTS, "second start"])
def test_a_collection_at_any_moment_of_a_build_that_adopts_shards(
    store: ArtifactStore, workers: Workers, at: Callable[..., None], aged: Callable[..., None], moment: str
) -> None:
    step = unfinished(store, workers)
    other(store, workers)
    aged(store)
    owner = {"publish": ArtifactStore, "run": Workers}.get(moment, marks if "start" in moment else building)
    name = {"run": "map", "second start": "start"}.get(moment, moment)
    at(owner, name, lambda: collect(store, delete=True), call=2 if moment == "second start" else 1)
    built = build(store, step, workers)
    assert whole(store) and built.shards_reused == (0 if moment == "start" else 4)


def test_a_build_between_look_and_sweep_adopts_nothing_that_goes(
    store: ArtifactStore, workers: Workers, at: Callable[..., None], aged: Callable[..., None]
) -> None:
    step = toy(SHARDS)
    build(store, step, workers)
    other(store, workers)
    aged(store)
    built: list[int] = []
    at(gc._Run, "_sweep", lambda: built.append(build(store, step, workers).shards_reused))
    collect(store, delete=True)
    assert built == [0] and store.find(step.ref) and whole(store)
