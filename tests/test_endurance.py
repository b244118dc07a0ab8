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
from tests.endurance.progress import Stage, stage_of
from tests.endurance.same import MAY_DIFFER, comparable, rest

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


def test_what_a_run_tells_is_no_stray(store: ArtifactStore) -> None:
    for name in ("run.json", "metrics/000001-00000021.jsonl", "jobs/000001.json", "events/000001-0000.json"):
        store.storage.put(f"run/toy/0123456789ab/{name}", b"{}")
    assert audit(store.uri).problems == []
    store.storage.put("run/toy/0123456789ab/metrics/half", b"{}")
    assert [one[:42] for one in audit(store.uri).problems] == ["run/toy/0123456789ab/metrics/half: neither"]


def test_other_tags_and_fingerprints_are_differences_too(store: ArtifactStore) -> None:
    first = comparable(store, audit(store.uri).digests)
    assert len(first) == 4 + 1 + 1
    (manifest,) = store.finished()
    store.tag(manifest.ref, "newest")
    assert differences(comparable(store, audit(store.uri).digests), first) == [
        f"refs/{manifest.ref.kind}/{manifest.ref.name}/newest.json"
    ]


def test_measured_fields_are_left_out_and_losses_are_not() -> None:
    measured = next(one.fields for one in MAY_DIFFER if one.objects.endswith("metrics.jsonl"))
    assert measured is not None
    slow, fast, other = (
        b'{"step": 1, "loss": 2.5, "seconds": 9.0}\n{"step": 2, "loss": 2.25, "seconds": 8.0}',
        b'{"step": 1, "loss": 2.5, "seconds": 1.0}\n{"step": 2, "loss": 2.25, "seconds": 1.0}',
        b'{"step": 1, "loss": 2.5, "seconds": 9.0}\n{"step": 2, "loss": 2.75, "seconds": 8.0}',
    )
    assert rest(slow, "metrics.jsonl", measured) == rest(fast, "metrics.jsonl", measured)
    assert rest(slow, "metrics.jsonl", measured) != rest(other, "metrics.jsonl", measured)


def test_a_chains_stage_is_what_its_store_holds() -> None:
    paths: list[str] = []
    assert stage_of(paths) == Stage.START
    for path, stage in (
        ("inventory/web/0/manifest.json", Stage.CURATION),
        ("report/small/0/attempt-1/report.json", Stage.CURATION),
        ("report/small/0/manifest.json", Stage.BEFORE_TRAINING),
        ("run/m/0/run.json", Stage.BEFORE_TRAINING),
        ("checkpoint/m/0/manifest.json", Stage.TRAINING),
        ("checkpoint/m/1/manifest.json", Stage.TRAINING),
        ("run/m/0/manifest.json", Stage.BEFORE_EVALUATION),
        ("evaluation/m-few/0/attempt-1/started.json", Stage.EVALUATION),
        ("evaluation/m-few/0/manifest.json", Stage.EVALUATION),
        ("evaluation/m-few/1/manifest.json", Stage.PUBLISHING),
        ("report/evaluation-m-few/0/manifest.json", Stage.PUBLISHING),
    ):
        paths.append(path)
        assert stage_of(paths) == stage, path
