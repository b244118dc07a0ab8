"""The whole chain on a real S3 server: the same bytes as in a folder, wherever store and sources are."""

from __future__ import annotations

from pathlib import Path

import pytest

from olmo_core.artifacts.build import build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.storage import Storage
from olmo_core.workers import Workers
from tests.small_corpus import Run, build_all, chain_of, load, small_recipe

pytestmark = pytest.mark.s3


@pytest.fixture
def store(bucket: str) -> ArtifactStore:
    return ArtifactStore(f"s3://{bucket}/some/store")


def test_the_whole_chain_gives_the_same_tokens_as_in_a_folder(
    store: ArtifactStore, workers: Workers, small: Run
) -> None:
    built = build_all(store, small.recipe, workers)
    assert built.keys() == small.built.keys()
    for label, one in built.items():
        assert one.ref == small.built[label].ref, label
        expected = {o.key: (o.sha256, o.size) for o in small.manifest(label).objects}
        assert {o.key: (o.sha256, o.size) for o in one.manifest.objects} == expected, label
    assert sum(o.size for o in built["packing/all"].manifest.objects) > 50_000
    assert all(again.reused for again in build_all(store, small.recipe, workers).values())
    for label in ("packing/all", "near-duplicates/all", "report/all"):
        assert store.verify(built[label].ref) == []


def test_sources_in_a_bucket_give_the_same_documents(
    store: ArtifactStore, workers: Workers, small: Run, tmp_path: Path
) -> None:
    """Where files lie is no part of what they are: names, sizes and hashes are the same, and so is all that follows."""
    bucket = Storage(store.storage.uri + "/sources")
    for folder in ("web", "wiki"):
        for file in (small.folder / folder).iterdir():
            bucket.put(f"{folder}/{file.name}", file.read_bytes())
    data = small_recipe(small.folder)
    for source in data["sources"]:
        source["read"]["paths"] = [path.replace(str(small.folder), bucket.uri) for path in source["read"]["paths"]]
    steps = chain_of(store, load(tmp_path, data)).steps()
    for label in ("inventory/web", "documents/web", "inventory/wiki", "documents/wiki"):
        step = next(s for s in steps if s.label == label)
        one, other = build(store, step, workers), small.built[label]
        assert one.ref == other.ref and not one.reused
        if label.startswith("documents/"):  # an inventory also holds what tells a changed file: here ETags, there times
            assert [o.sha256 for o in one.manifest.objects] == [o.sha256 for o in other.manifest.objects], label
