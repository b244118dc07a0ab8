"""Collections that fail half way, and builds that meet one between two of their own steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts import build as building
from olmo_core.artifacts import gc, marks
from olmo_core.artifacts.build import build
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import TransientStorageError
from olmo_core.storage import Storage
from olmo_core.workers import Workers
from tests.artifacts.test_gc import SHARDS, chain, later, other, paths, unfinished, whole
from tests.artifacts.toy import toy


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(1) as pool:
        yield pool


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.mark.parametrize("broken", ["_delete_records", "look"])
def test_manifests_come_back_when_the_second_look_fails(
    store: ArtifactStore, workers: Workers, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Between the deletion of manifests and that of objects nobody knows what came into use."""
    gone = chain(store, workers)
    other(store, workers)
    real, calls = gc.look, list[bool]()

    def fail(*args: Any, **options: Any) -> Any:
        calls.append(True)
        if broken == "look" and len(calls) == 1:
            return real(*args, **options)
        assert not any(store.find(ref) for ref in gone)
        raise TransientStorageError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(*((gc, "look", fail) if broken == "look" else (gc._Run, "_delete_records", fail)))
        with pytest.raises(TransientStorageError, match="no answer"):
            later(store)
    assert all(store.find(ref) for ref in gone) and whole(store)
    assert {w.address for w in later(store).waste if w.what == "artifact"} == {ref.address for ref in gone}


@pytest.mark.parametrize("sidecars_only", [False, True])
def test_shards_taken_from_another_build_are_looked_for_before_they_are_listed(
    store: ArtifactStore, workers: Workers, monkeypatch: pytest.MonkeyPatch, sidecars_only: bool
) -> None:
    """The other one makes all shards while this one runs; a collection comes, or begins, before this one's mark."""
    other(store, workers)
    step = toy(SHARDS)
    built: list[ArtifactRef] = []

    def meanwhile(_: Any) -> None:
        if not built:
            built.append(build(store, step, workers).ref)

    real, hit = marks.start, list[bool]()

    def start(store: ArtifactStore, folder: str, inputs: Any, reuses: Any) -> None:
        if reuses and sidecars_only:
            hit.append(True)
            store.storage.delete(step.ref.manifest_path)
            for one in [p for p in paths(store) if p.startswith(step.ref.address) and p.endswith(building.SIDECAR)]:
                store.storage.delete(one)
        elif reuses:
            hit.append(True)
            later(store)
        real(store, folder, inputs, reuses)

    monkeypatch.setattr(marks, "start", start)
    with pytest.raises(TransientStorageError, match=r"toy.*/k\d: taken from .*Run it again"):
        build(store, step, workers, progress=meanwhile)
    assert built == [step.ref] and hit == [True] and store.find(step.ref) is None and whole(store)
    monkeypatch.undo()
    build(store, step, workers)
    assert store.find(step.ref) and whole(store)


@pytest.mark.parametrize("what", ["sidecar", "object"])
def test_what_is_deleted_while_a_build_reads_it_is_not_adopted(
    store: ArtifactStore, workers: Workers, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    step = unfinished(store, workers)
    victim = next(p for p in sorted(paths(store)) if "/k0" in p and p.endswith(building.SIDECAR) == (what == "sidecar"))
    owner, name = (Storage, "read") if what == "sidecar" else (ArtifactStore, "sha256")
    real, hit = getattr(owner, name), list[str]()

    def deleted_first(self: Any, path: str, **options: Any) -> Any:
        if path == victim and not hit:
            hit.append(path)
            Storage(store.uri).delete(path)
        return real(self, path, **options)

    monkeypatch.setattr(owner, name, deleted_first)
    assert build(store, step, workers).shards_reused == 3 and hit == [victim] and whole(store)
