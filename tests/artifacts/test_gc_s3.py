"""Garbage collection in a bucket of a real S3 server: the tests of test_gc.py that are not about folders, and many objects."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from olmo_core import storage_s3
from olmo_core.artifacts.build import build
from olmo_core.artifacts.gc import collect
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.storage_folder import Found
from olmo_core.storage_removal import delete_many
from olmo_core.workers import Workers
from tests.artifacts.test_gc import (  # noqa: F401 - collected here, with this module's fixture `store`
    DAY,
    SHARDS,
    at,
    later,
    paths,
    test_a_build_between_look_and_sweep_adopts_nothing_that_goes,
    test_a_build_between_the_collections_two_steps_gets_its_input_back,
    test_a_collection_at_any_moment_of_a_build_that_adopts_shards,
    test_a_collection_at_any_moment_of_a_build_that_reuses_shards,
    test_a_silent_build_that_was_taken_for_dead_publishes_nothing,
    test_new_artifacts_and_tags_between_the_two_steps_are_seen,
    test_objects_shared_by_reference_stay,
    whole,
)
from tests.artifacts.toy import toy
from tests.s3_server import S3Server

pytestmark = pytest.mark.s3


@pytest.fixture
def store(bucket: str) -> ArtifactStore:
    return ArtifactStore(f"s3://{bucket}/some/store")


@pytest.fixture
def aged(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make all that is in the store now count as two days old; what is written later is new."""
    from olmo_core.artifacts import marks

    walk, contents, old = storage_s3.Bucket.walk, storage_s3.Bucket.contents, [0.0]

    def shifted(found: Found) -> Found:
        path, size, modified = found
        return path, size, modified - 2 * DAY if modified <= old[0] else modified

    def age(store: ArtifactStore) -> None:
        def second() -> float:
            store.storage.put("clock", b"")
            backend: Any = store.storage._backend
            return next(when for path, _, when in contents(backend, "")[1] if path == "clock")

        first = second()
        while (now := second()) <= first:
            pass  # this answer of the store is in whole seconds: all that follows shall be in a later one
        old[0] = now - 0.001
        monkeypatch.setattr(marks, "finished_at", lambda manifest: 0.0)

    def contents_of(self: storage_s3.Bucket, prefix: str) -> tuple[list[str], list[Found]]:
        folders, found = contents(self, prefix)
        return folders, [shifted(one) for one in found]

    monkeypatch.setattr(storage_s3.Bucket, "walk", lambda self, prefix: map(shifted, walk(self, prefix)))
    monkeypatch.setattr(storage_s3.Bucket, "contents", contents_of)
    return age


def test_many_objects_go_in_batches_and_neighbours_stay(
    s3: S3Server, bucket: str, store: ArtifactStore, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = build(store, toy(SHARDS), workers).ref
    store.tag(kept, "latest")
    dead = f"{kept.address[:-1]}{'0' if kept.address[-1] != '0' else '1'}/attempt-old"
    client = s3.client()
    keys = [f"some/store/{dead}/part é&<{n}>+.parquet" for n in range(1005)]
    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(lambda key: client.put_object(Bucket=bucket, Key=key, Body=b"x"), keys):
            pass
    client.put_object(Bucket=bucket, Key="some/store-of-others/attributes/x/y/attempt-z/a.parquet", Body=b"x")
    asked: list[int] = []
    real = storage_s3.client().delete_objects
    monkeypatch.setattr(
        storage_s3.client(), "delete_objects", lambda **o: asked.append(len(o["Delete"]["Objects"])) or real(**o)
    )
    did = later(store)
    assert did.objects == 1005 + 5 and sorted(asked)[-2:] == [5, 1000]
    assert not [p for p in paths(store) if p.startswith(dead)] and whole(store)
    rest = client.list_objects_v2(Bucket=bucket, Prefix="some/store-of-others")["KeyCount"]
    assert rest == 1
    assert delete_many(store.storage, ["nothing/there"]) == 1, "deleting what is not there is no error"


def test_unfinished_uploads_go(s3: S3Server, bucket: str, store: ArtifactStore, workers: Workers) -> None:
    store.tag(build(store, toy(SHARDS), workers).ref, "latest")
    client = s3.client()
    keys = ("some/store/attributes/x/y/attempt-a/b.parquet", "some/store-of-others/b.parquet")
    for key in keys:
        client.create_multipart_upload(Bucket=bucket, Key=key)
    assert collect(store, now=time.time() + 0.9 * DAY).leftovers == 0
    assert later(store).leftovers == 1
    assert [one["Key"] for one in client.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [keys[1]]
