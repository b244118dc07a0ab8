"""Runs and checkpoints among the other artifacts: listed, verified, followed from the tokens, and collected."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from flows.command import main
from olmo_core.artifacts import gc
from olmo_core.artifacts.gc import collect
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train import run_artifact
from olmo_core.train.run_file import RunFile
from tests.train.small_run import Trainer, publish, run_file

DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """Tokens, made from a corpus, and a held-out split's."""
    found = ArtifactStore(str(tmp_path / "store"))
    corpus = ArtifactRef(kind=Kind.CORPUS, name="words", fingerprint="c0" * 32)
    run = a_run(found)
    assert run.held_out
    publish(found, corpus)
    publish(found, run.tokens, corpus=corpus)
    publish(found, run.held_out)
    return found


def a_run(store: ArtifactStore, **changes: Any) -> RunFile:
    held_out = ArtifactRef(kind=Kind.TOKENS, name="words-validation", fingerprint="5e" * 32)
    return run_file(store.uri, held_out=held_out, **changes)


def trained(store: ArtifactStore, run: RunFile, *, finish: bool = True) -> Trainer:
    """Train two steps, a checkpoint after each, and publish the run."""
    trainer = Trainer(run, shard=False)
    for _ in range(3):
        trainer.save()
        trainer.train(1)
    if finish:
        run_artifact.publish(store, run, trainer.epoch, trainer.state())
    return trainer


def age(store: ArtifactStore, days: float) -> None:
    """Make everything in the store older; in manifests, too."""
    for one in store.storage.walk(""):
        full = Path(store.uri) / one.path
        if one.path.endswith("/manifest.json"):
            data = json.loads(full.read_text())
            full.write_text(json.dumps({**data, "ended": "2020-01-01T00:00:00+00:00"}))
        os.utime(full, (time.time() - days * DAY,) * 2)


def whole(store: ArtifactStore) -> bool:
    """Say whether every finished artifact has its objects and inputs."""
    for manifest in store.finished():
        assert store.verify(manifest.ref) == []
        assert all(store.find(parent) for parent in manifest.inputs.values())
    return not store.storage.exists(gc.RUNNING)


def olmo(capsys: pytest.CaptureFixture[str], store: ArtifactStore, *words: str) -> tuple[int, str]:
    code = main.main(["artifacts", *words, "--store", store.uri])
    return code, "".join(capsys.readouterr())


def test_commands_know_runs_and_checkpoints(store: ArtifactStore, capsys: pytest.CaptureFixture[str]) -> None:
    run = a_run(store)
    trained(store, run)
    code, text = olmo(capsys, store, "ls", "checkpoint")
    assert code == 0 and "step2-tokens0B" in text and "latest" in text and str(run.checkpoint(1)) in text
    code, text = olmo(capsys, store, "ls")
    assert str(run.ref) in text
    code, text = olmo(capsys, store, "show", "checkpoint/small@step1-tokens0B", "--json")
    shown = json.loads(text)
    assert code == 0 and shown["counts"]["step"] == 1 and shown["recipe"]["run"] == run.ref.fingerprint
    assert olmo(capsys, store, "show", "run/small")[0] == 0
    code, text = olmo(capsys, store, "lineage", str(run.tokens), "--forward")
    assert code == 0 and all(str(ref) in text for ref in (run.ref, *map(run.checkpoint, range(3))))
    code, text = olmo(capsys, store, "lineage", "checkpoint/small")
    assert code == 0 and "corpus/words" in text
    code, text = olmo(capsys, store, "tag", "checkpoint/small@step1-tokens0B", "best-1B")
    assert code == 0 and store.resolve("checkpoint/small@best-1B") == run.checkpoint(1)


def test_verify_finds_a_damaged_checkpoint_and_says_what_to_do(
    store: ArtifactStore, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(store)
    trained(store, run)
    assert olmo(capsys, store, "verify")[0] == 0
    one = store.manifest(run.checkpoint(2)).object("rank-00000-000.safetensors")
    full = Path(store.uri) / one.path
    full.write_bytes(full.read_bytes()[:-1] + b"?")
    code, text = olmo(capsys, store, "verify", "checkpoint/small")
    assert code == 1 and one.path in text and "sha256" in text
    code, text = olmo(capsys, store, "verify", "checkpoint/small", "--repair", "--workers", "1")
    assert code == 1 and "what was trained is not repaired" in text and run.checkpoint(2).manifest_path in text


def test_the_inputs_of_a_run_survive_a_collection_while_it_trains(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For weeks: whatever is older than the grace goes, but for what the last save has marked."""
    run = a_run(store)
    trainer = trained(store, run, finish=False)
    other = publish(store, ArtifactRef(kind=Kind.TOKENS, name="other", fingerprint="0f" * 32))
    for days in (10, 8):
        trainer.checkpoints.wait()
        age(store, days)
        trainer.save()
        trainer.train(1)
        done = collect(store, delete=True)
        assert done.deleted and whole(store)
        assert store.find(run.tokens) and store.find(run.held_out or run.tokens)
        assert [m.counts["step"] for m in store.finished("checkpoint")]
    assert store.find(other.ref) is None
    assert all(store.find(run.checkpoint(step)) for step in range(5)), "each has its tag"
    run_artifact.publish(store, run, trainer.epoch, trainer.state())
    assert collect(store, delete=True).kept == 9 and whole(store)


def test_inputs_are_marked_from_the_start(store: ArtifactStore) -> None:
    """Before there is any checkpoint."""
    run = a_run(store)
    store.tag(publish(store, ArtifactRef(kind=Kind.TOKENS, name="x", fingerprint="0f" * 32)).ref, "latest")
    age(store, 20)
    Trainer(run, shard=False)
    collect(store, delete=True)
    assert store.find(run.tokens) and store.find(run.held_out or run.tokens)
    collect(store, delete=True, now=time.time() + 8 * DAY)
    assert store.find(run.tokens) is None, "it has not come back for a week"


def test_a_collection_takes_checkpoints_without_tags_and_spares_a_save_under_way(store: ArtifactStore) -> None:
    run = a_run(store)
    trained(store, run)
    (Path(store.uri) / "refs/checkpoint/small/step1-tokens0B.json").unlink()
    age(store, 8)
    saving = f"{run.checkpoint(3).address}/attempt-x-epoch-000001/rank-00000-000.safetensors"
    store.storage.put(saving, b"half")
    store.storage.put(f"{run.ref.address}/metrics/000001-00000001.jsonl", b"{}")
    collect(store, delete=True)
    assert store.find(run.checkpoint(1)) is None and store.find(run.checkpoint(0)) and whole(store)
    assert store.storage.exists(saving)
    collect(store, delete=True, now=time.time() + 2 * DAY)
    assert not store.storage.exists(saving)
    assert store.storage.exists(f"{run.ref.address}/metrics/000001-00000001.jsonl"), "what a run tells is no attempt"
    assert store.storage.exists(f"{run.ref.address}/epochs/000001.json")


def test_a_checkpoint_that_a_run_goes_on_from_stays(store: ArtifactStore) -> None:
    run = a_run(store)
    trained(store, run)
    longer = a_run(store, name="longer", start=run.checkpoint(1))
    trained(store, longer)
    for tag in Path(store.uri, "refs/checkpoint/small").iterdir():
        tag.unlink()
    age(store, 8)
    collect(store, delete=True)
    assert [s for s in range(3) if store.find(run.checkpoint(s))] == [1] and whole(store)


def evaluated(store: ArtifactStore, checkpoint: ArtifactRef) -> ArtifactRef:
    """An evaluation of a checkpoint."""
    ref = ArtifactRef(kind=Kind.EVALUATION, name="small-few", fingerprint="e0" * 32)
    publish(store, ref, checkpoint=checkpoint)
    return ref


def test_a_tagged_evaluation_keeps_its_checkpoint_and_an_untagged_one_goes(store: ArtifactStore) -> None:
    run = a_run(store)
    trained(store, run)
    evaluation = evaluated(store, run.checkpoint(1))
    for tag in store.all_tags():
        store.storage.delete(tag)
    store.tag(evaluation, "latest")
    age(store, 8)
    dry = collect(store)
    assert {one.address for one in dry.waste if one.what == "artifact"} == {
        run.ref.address, run.checkpoint(0).address, run.checkpoint(2).address, run.held_out.address if run.held_out else "",
    }  # fmt: skip
    assert store.find(run.ref) and store.find(run.checkpoint(0)), "a dry run deletes nothing"
    collect(store, delete=True)
    assert store.find(evaluation) and store.find(run.checkpoint(1)) and store.find(run.tokens) and whole(store)
    assert store.storage.exists(f"{run.ref.address}/epochs/000001.json"), "its checkpoint may be made again by it"
    store.storage.delete("refs/evaluation/small-few/latest.json")
    store.tag(run.tokens, "latest")
    collect(store, delete=True)
    assert [str(m.ref) for m in store.finished() if m.ref.kind in (Kind.EVALUATION, Kind.CHECKPOINT, Kind.RUN)] == []


def test_what_a_run_told_goes_with_the_last_of_its_checkpoints(store: ArtifactStore) -> None:
    run, unfinished = a_run(store), a_run(store, name="unfinished")
    trained(store, run)
    trained(store, unfinished, finish=False)
    for one in (run, unfinished):
        store.storage.put(f"{one.ref.address}/run.json", b"{}")
    for tag in store.all_tags():
        store.storage.delete(tag)
    store.tag(run.tokens, "latest")
    age(store, 8)
    store.storage.put(f"{unfinished.ref.address}/metrics/000001-00000003.jsonl", b"{}")
    collect(store, delete=True)  # the checkpoints, and what the finished run told
    collect(store, delete=True)
    assert not [one.path for one in store.storage.walk(run.ref.address)]
    assert store.storage.exists(f"{unfinished.ref.address}/run.json"), "its trainer wrote a moment ago"
    age(store, 8)
    collect(store, delete=True)
    assert not list(store.storage.walk("run")) and not list(store.storage.walk("checkpoint"))
    assert store.find(run.tokens) and whole(store)
