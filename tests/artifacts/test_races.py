"""Two builds of the same step at once, anywhere: one manifest, no error, and only what both had under way done twice."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from olmo_core.artifacts.build import Built, Progress, build
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.workers import Workers
from tests.artifacts.places import PLACES, Threads, open_store
from tests.artifacts.toy import toy
from tests.fault_proxy import Fault, FaultProxy

SHARDS = {f"k{i:02}": [i, i + 1, i + 2] for i in range(24)}


@pytest.fixture(params=PLACES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return open_store(request, tmp_path)


@pytest.fixture
def workers() -> Iterator[Workers]:
    with Threads(2) as threads:
        yield threads


def made(store: ArtifactStore, ref: ArtifactRef) -> Counter[str]:
    """How often each shard was made, by the sidecars of all attempts."""
    found = [one.path for one in store.storage.walk(ref.address) if one.path.endswith(".done.json")]
    return Counter(path.rsplit("/", 1)[1].removesuffix(".done.json") for path in found)


def test_who_comes_first_takes_over_what_the_second_has_done(store: ArtifactStore, workers: Workers) -> None:
    """The second build begins when the first has done some shards, and ends before it goes on."""
    step, second = toy(SHARDS), list[Built]()

    def meanwhile(progress: Progress) -> None:
        if progress.shards_done >= 6 and not second:
            second.append(build(store, step, workers))

    first = build(store, step, workers, progress=meanwhile)
    assert first.manifest == second[0].manifest == store.manifest(step.ref)
    assert store.verify(step.ref) == []
    assert second[0].shards_reused >= 6
    counted = made(store, step.ref)
    # Threads go on with the first build's shards meanwhile: these are the race.
    twice = sum(times - 1 for times in counted.values())
    assert set(counted) == set(SHARDS) and max(counted.values()) <= 2
    assert first.shards_reused + second[0].shards_reused == len(SHARDS) - twice


def build_at_once(uri: str, start: Barrier) -> tuple[str, int]:
    """In a process of its own: begin together with the other; return the standing attempt and the shards taken over."""
    store = ArtifactStore(uri)
    with Threads(2) as threads:
        start.wait(500)
        built = build(store, toy(SHARDS), threads)
    return built.manifest.attempt, built.shards_reused


def test_two_processes_at_once_leave_one_artifact_and_share_the_work(store: ArtifactStore) -> None:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, ProcessPoolExecutor(2, mp_context=spawn) as pool:
        start = manager.Barrier(2)
        both = [future.result(600) for future in [pool.submit(build_at_once, store.uri, start) for _ in range(2)]]
    step = toy(SHARDS)
    assert {attempt for attempt, _ in both} == {store.manifest(step.ref).attempt}
    assert store.verify(step.ref) == []
    counted = made(store, step.ref)
    assert set(counted) == set(SHARDS)
    assert sum(counted.values()) == 2 * len(SHARDS) - sum(reused for _, reused in both)
    assert max(counted.values()) <= 2 and sum(counted.values()) < 2 * len(SHARDS), "some work was shared"


@pytest.mark.s3
@pytest.mark.parametrize("fault", [Fault.LOST_ANSWER, Fault.RESET_IN_ANSWER])
def test_who_has_published_and_was_not_told_has_published(
    bucket: str, faults: FaultProxy, workers: Workers, fault: Fault
) -> None:
    store, step = ArtifactStore(f"s3://{bucket}"), toy(SHARDS)
    faults.once(fault, "PUT", "/manifest.json", times=2)
    built = build(store, step, workers)
    assert faults.counts == {fault: 2}
    assert store.publish(built.manifest) == (built.manifest, True)
    assert store.manifest(step.ref) == built.manifest


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_forced_rebuild_takes_nothing_over(store: ArtifactStore, workers: Workers, rebuild: bool) -> None:
    """Its purpose is to make every shard again, also where other attempts have them."""
    step = toy(SHARDS)
    build(store, step, workers)
    again = build(store, step, workers, rebuild=rebuild)
    assert again.reused != rebuild
    assert set(made(store, step.ref).values()) == {1 + rebuild}
