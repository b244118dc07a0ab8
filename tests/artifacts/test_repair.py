"""Checking with lineage, and repairing: only what is damaged, inputs first, and nothing when it does not come out the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from olmo_core.artifacts.build import build
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.repair import check, repair
from olmo_core.artifacts.step import Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import RecipeError
from olmo_core.workers import Workers
from tests.artifacts.toy import ToyRecipe, toy

SHARDS = {f"k{i}": [i, i + 1, i + 2] for i in range(4)}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(1) as pool:
        yield pool


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


class Known:
    """Origins of given steps."""

    def __init__(self, *steps: Step) -> None:
        self.steps = {step.ref: step for step in steps}
        self.asked: list[tuple[str, set[str]]] = []

    def step(self, ref: ArtifactRef, shards: Collection[str]) -> Step:
        self.asked.append((ref.name, set(shards)))
        if ref not in self.steps:
            raise RecipeError("nobody knows")
        return self.steps[ref]


def two(store: ArtifactStore, workers: Workers) -> tuple[Step, Step]:
    first = toy(SHARDS, stage="one")
    second = toy(SHARDS, stage="two", inputs={"in": build(store, first, workers).ref})
    build(store, second, workers)
    return first, second


def harm(store: ArtifactStore, step: Step, *keys: str) -> list[str]:
    """Delete, cut and change objects in turn; return their paths."""
    manifest = store.manifest(step.ref)
    for n, key in enumerate(keys):
        one = manifest.object(key)
        if n % 3 == 0:
            store.storage.delete(one.path)
        else:
            store.storage.put(one.path, b"x" * (5 if n % 3 == 1 else one.size))
    return [manifest.object(key).path for key in keys]


def state(store: ArtifactStore) -> dict[str, tuple[int, str]]:
    return {one.path: (one.size, store.sha256(one.path)) for one in store.storage.walk("")}


def test_only_damaged_shards_run_again_inputs_first(store: ArtifactStore, workers: Workers) -> None:
    first, second = two(store, workers)
    before = state(store)
    times = {one.path: one.modified for one in store.storage.walk("")}
    damaged = {*harm(store, second, "k1", "k2"), *harm(store, first, "k0", "k1", "k3")}
    found = check(store, [second.ref], inputs=True)
    assert {d.path for one in found for d in one.damages} == damaged
    origins = Known(first, second)
    fixed = repair(store, found, origins, workers)
    assert [one.well for one in fixed] == [True, True] and all(one.repaired for one in fixed)
    assert origins.asked == [("x-one", {"k0", "k1", "k3"}), ("x-two", {"k1", "k2"})]
    assert state(store) == before, "everything is as it was, and no attempt is left"
    assert {p for p, t in times.items() if t != {o.path: o.modified for o in store.storage.walk("")}[p]} == damaged
    assert [one.well for one in check(store, None, inputs=True)] == [True, True]


def test_what_comes_out_differently_is_not_put_back(store: ArtifactStore, workers: Workers) -> None:
    first, second = two(store, workers)
    (damaged,) = harm(store, first, "k2")
    harm(store, second, "k2")
    before = state(store)
    different = toy({**SHARDS}, ToyRecipe(factor=3), stage="one")
    origins = Known(second)
    origins.steps[first.ref] = different
    fixed = repair(store, check(store, None, inputs=True), origins, workers)
    assert [one.well for one in fixed] == [False, False]
    assert "k2 is not what the stage would make" in fixed[0].problem
    assert "its input attributes/x-one" in fixed[1].problem and state(store) == before

    class Drifted:
        """The same fingerprint, other bytes: as after a change of a library."""

        def step(self, ref: ArtifactRef, shards: Collection[str]) -> Step:
            from dataclasses import replace

            return replace(first, work=drifted)

    fixed = repair(store, check(store, [first.ref], inputs=False), Drifted(), workers)
    assert "k2: made again it has other rows" in fixed[0].problem and state(store) == before
    assert store.storage.size(damaged) is None


def drifted(job, output):  # type: ignore[no-untyped-def]
    from tests.artifacts import toy as module

    job.shard.inputs["values"][0] += 1
    return module.work(job, output)


def test_a_shared_object_is_repaired_once_for_all(store: ArtifactStore, workers: Workers) -> None:
    old = toy(SHARDS)
    build(store, old, workers)
    new = toy({**SHARDS, "k9": [9]}, inputs={"x": build(store, toy({}, stage="x"), workers).ref})
    assert build(store, new, workers).shards_reused == 4
    harm(store, old, "k0")
    found = check(store, None, inputs=True)
    assert sum(bool(one.damages) for one in found) == 2
    origins = Known(old, new)
    assert all(one.well for one in repair(store, found, origins, workers))
    assert len(origins.asked) == 1
    assert all(one.well for one in check(store, None, inputs=True))


def test_manifests_that_are_missing_or_unreadable(store: ArtifactStore, workers: Workers) -> None:
    first, second = two(store, workers)
    store.tag(second.ref, "latest")
    good = {path: raw for path, raw in state(store).items() if path.endswith(".parquet")}
    store.storage.delete(first.ref.manifest_path)
    store.storage.put(second.ref.manifest_path, b"{}")
    found = check(store, None, inputs=True)
    problems = {one.address: one.damages[0].problem for one in found}
    assert "not a manifest" in problems[second.ref.address] and len(found) == 1
    fixed = repair(store, found, Known(first, second), workers)
    assert "cannot be read" in fixed[0].problem, "nothing but its own manifest tells its fingerprint"
    store.storage.delete(second.ref.manifest_path)
    found = check(store, None, inputs=True)
    assert "the tag refs/attributes/x-two/latest.json refers to it" in found[0].damages[0].problem
    fixed = repair(store, found, Known(first, second), workers)
    assert "not finished" in fixed[0].problem
    build(store, first, workers)
    assert all(one.well for one in repair(store, found, Known(first, second), workers))
    assert good.items() <= state(store).items() and all(one.well for one in check(store, None, inputs=True))
    store.storage.put(first.ref.manifest_path, b"{}")
    found = check(store, [second.ref], inputs=True)
    assert [one.address for one in found if one.damages] == [first.ref.address]
    failed = repair(store, found, Known(second), workers)
    assert "nobody knows" in failed[0].problem and store.storage.read(first.ref.manifest_path) == b"{}"
    assert all(one.well for one in repair(store, found, Known(first), workers))
    assert good.items() <= state(store).items() and all(one.well for one in check(store, None, inputs=True))


def test_presence_and_size_only(store: ArtifactStore, workers: Workers) -> None:
    _, second = two(store, workers)
    harm(store, second, "k0", "k1", "k2")
    told: list[tuple[str, int]] = []
    found = check(
        store, [second.ref], inputs=False, contents=False, progress=lambda one, n: told.append((one.address, n))
    )
    assert [len(one.damages) for one in found] == [2] and told == [(second.ref.address, 1)]
