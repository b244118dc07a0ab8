"""Building artifacts on a real S3 server: what holds for a folder holds there, and every byte is the same.

The tests of test_build.py that are about the store run again, unchanged, with a store in a bucket, and with one behind a
proxy that damages one request in ten.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from olmo_core.artifacts.build import Progress, build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import TransientStorageError
from olmo_core.workers import Workers
from tests.artifacts.places import BUCKETS, Threads, open_store
from tests.artifacts.test_build import (  # noqa: F401 - collected here, with this module's fixture `store`
    SHARDS,
    digests,
    test_a_damaged_shard_of_a_killed_build_is_not_adopted,
    test_a_ledger_that_does_not_balance_stops_the_stage,
    test_a_second_build_runs_nothing,
    test_names_resolve_and_errors_list_what_there_is,
    test_one_more_shard_builds_one,
    test_rebuild_compares_bytes,
    test_shards_of_a_killed_build_are_adopted,
    test_two_builds_at_once_give_one_manifest,
    test_verify_finds_damage,
)
from tests.artifacts.toy import toy
from tests.s3_server import S3Server

pytestmark = pytest.mark.s3


@pytest.fixture(params=BUCKETS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    return open_store(request, tmp_path)


@pytest.fixture(scope="module")
def processes() -> Iterator[Workers]:
    with Workers(2) as pool:
        yield pool


@pytest.fixture
def workers(request: pytest.FixtureRequest, processes: Workers) -> Workers:
    """Worker processes; threads behind the proxy."""
    return Threads(2) if "s3-faults" in request.node.name else processes


def test_every_object_is_the_same_as_in_a_folder(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    folder = ArtifactStore(str(tmp_path / "store"))
    there, here = build(store, toy(SHARDS), workers), build(folder, toy(SHARDS), workers)
    assert there.ref == here.ref
    assert digests(store, toy(SHARDS)) == digests(folder, toy(SHARDS))
    assert store.verify(there.ref) == folder.verify(here.ref) == []
    for one in there.manifest.objects:
        other = here.manifest.object(one.key)
        assert store.storage.read(one.path) == folder.storage.read(other.path)
        assert (one.digest, one.rows, one.size) == (other.digest, other.rows, other.size)


@pytest.mark.slow  # the waits between the attempts of earnest runs
def test_a_build_survives_that_its_store_goes_down(
    s3: S3Server, store: ArtifactStore, workers: Workers, tmp_path: Path
) -> None:
    """The step fails in bounded time with an error worth another try; the next try adopts what was finished."""
    shards = {f"k{i:02}": [i, i + 1] for i in range(12)}  # more than are made while the gateway ends
    step, down = toy(shards), list[float]()

    def stop(progress: Progress) -> None:
        if progress.shards_done == 3:
            s3.stop_gateway()
            down.append(time.monotonic())

    try:
        with pytest.raises(TransientStorageError, match="did not answer"):
            build(store, step, workers, progress=stop)
        assert time.monotonic() - down[0] < 120
    finally:
        s3.start_gateway()
    assert store.find(step.ref) is None
    second = build(store, step, workers)
    assert 3 <= second.shards_reused < len(shards)
    folder = ArtifactStore(str(tmp_path / "store"))
    build(folder, step, workers)
    assert digests(store, step) == digests(folder, step)
