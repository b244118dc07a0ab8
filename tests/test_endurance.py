"""The judge of the endurance runs sees what it is there to see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from olmo_core.artifacts.build import build
from olmo_core.artifacts.store import ArtifactStore
from tests.artifacts.places import Threads
from tests.artifacts.toy import toy
from tests.endurance.__main__ import parse
from tests.endurance.audit import audit, differences

SHARDS = {f"k{i}": [i, i + 1, i + 2] for i in range(4)}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    store = ArtifactStore(str(tmp_path / "store"))
    with Threads(2) as threads:
        store.tag(build(store, toy(SHARDS), threads).ref, "latest")
    return store


def test_a_good_store_has_no_problems(store: ArtifactStore) -> None:
    found = audit(store.uri)
    assert found.problems == [] and (found.manifests, found.shards, found.twice, found.orphans) == (1, 4, 0, 0)
    assert len(found.digests) == 4


def test_damage_strays_and_lies_are_problems(store: ArtifactStore) -> None:
    (manifest,) = store.finished()
    first, second = manifest.objects[:2]
    storage, address = store.storage, manifest.ref.address
    storage.put(first.path, b"half")
    storage.delete(second.path)
    storage.put(f"{address}/stray.parquet", b"1")
    storage.put(f"{address}/attempt-x/orphan.parquet", b"1")
    data = json.loads(storage.read(manifest.ref.manifest_path))
    data["shards"][3]["ledger"]["kept"]["documents"] += 1
    storage.put(manifest.ref.manifest_path, json.dumps(data).encode())
    found = audit(store.uri)
    for words in (
        f"{first.path}: 4 bytes, expected",
        f"{second.path}: missing",
        "a sidecar whose object",
        "stray.parquet: neither a manifest",
        "k3: the ledger does not balance",
    ):
        assert any(words in problem for problem in found.problems), (words, found.problems)
    assert found.orphans == 1


def test_other_bytes_and_other_keys_are_differences() -> None:
    assert differences({"a": "1", "b": "2"}, {"a": "1", "b": "2"}) == []
    assert differences({"a": "1", "b": "2"}, {"a": "9", "c": "3"}) == ["a", "b", "c"]


def test_unknown_stores_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--stores", "local,floppy"])
    assert "floppy; there are local, s3, s3-faults" in capsys.readouterr().err
