"""Which checkpoints of a run stay, and that only those go which nobody uses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.artifacts import gc, marks
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.storage import Storage
from olmo_core.train import retention
from olmo_core.train.retention import superfluous
from tests.train.small_run import Trainer, publish, run_file


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def trained(uri: str, steps: int, *, only: int = 0, **changes: Any) -> Trainer:
    """Train and save every step from `only` on, without deleting any."""
    trainer = Trainer(run_file(uri, **changes), shard=False)
    trainer.step = only
    for _ in range(steps - only + 1):
        trainer.save(retain=False)
        trainer.train(1)
    return trainer


def there(uri: str, steps: int = 12, **changes: Any) -> list[int]:
    """The steps whose checkpoints are there, each whole, and nothing else below their addresses."""
    store, run = ArtifactStore(uri), run_file(uri, **changes)
    found = [step for step in range(steps) if store.find(run.checkpoint(step))]
    assert all(store.verify(run.checkpoint(step)) == [] for step in found)
    addresses = {run.checkpoint(step).address for step in range(steps)}
    below = {"/".join(one.path.split("/")[:3]) for one in Storage(uri).walk("checkpoint")} & addresses
    assert below == {run.checkpoint(step).address for step in found}
    tagged = {ref for tag, ref in store.tags("checkpoint", run.recipe.name).items()}
    assert tagged & {run.checkpoint(s) for s in range(steps)} == {run.checkpoint(step) for step in found}
    return found


@pytest.mark.parametrize(
    "steps, last, every, gone",
    [
        (range(0, 80, 10), None, 30, []),
        (range(0, 80, 10), 2, 30, [10, 20, 40, 50]),
        (range(0, 80, 10), 1, 1000, [10, 20, 30, 40, 50, 60]),
        (range(0, 80, 10), 0, 40, [10, 20, 30, 50, 60]),
        (range(0, 80, 10), 9, 1000, []),
        ([5, 7, 11], 1, 7, []),
        ([5, 8, 11], 1, 7, [8]),
        ([0, 10], 0, 1000, []),
        ([], 1, 1, []),
    ],
)
def test_what_is_superfluous(steps: Any, last: int | None, every: int, gone: list[int]) -> None:
    assert sorted(superfluous(steps, last, every)) == gone


@given(st.sets(st.integers(0, 500), max_size=40), st.integers(0, 5), st.integers(1, 50))
def test_first_last_and_multiples_are_never_superfluous(steps: set[int], last: int, every: int) -> None:
    gone = superfluous(steps, last, every)
    kept = steps - gone
    assert gone <= steps and not any(step % every == 0 for step in gone)
    if steps:
        assert {min(steps), max(steps)} <= kept and set(sorted(steps, reverse=True)[:last]) <= kept


def test_a_save_deletes_what_is_superfluous(uri: str) -> None:
    trainer = Trainer(run_file(uri, keep_last=2, keep_every=4), shard=False)
    for _ in range(9):
        trainer.save()
        trainer.train(1)
    trainer.checkpoints.close()
    assert there(uri) == [0, 4, 7, 8]
    assert retention.noted(ArtifactStore(uri), run_file(uri)) == [0, 4, 7, 8]
    assert not Storage(uri).exists(gc.RUNNING)
    assert [m.counts["step"] for m in retention.committed(ArtifactStore(uri), run_file(uri))] == [8, 7, 4, 0]


def test_what_somebody_uses_stays(uri: str) -> None:
    """A tag set by a person, what was made from a checkpoint, an execution that reads one, and a run that goes on from it."""
    trained(uri, 8)
    store, run = ArtifactStore(uri), run_file(uri, keep_last=1, keep_every=1000)
    store.tag(run.checkpoint(2), "best")
    evaluated = ArtifactRef(kind=Kind.EVALUATION, name="small", fingerprint="e" * 64)
    publish(store, evaluated, checkpoint=run.checkpoint(3))
    marks.start(store, "model/small-hf/0123456789ab/attempt-x", [run.checkpoint(4)], None)
    trained(uri, 6, only=6, name="longer", start=run.checkpoint(5))
    assert retention.apply(store, run, 1) == [1, 6, 7]
    assert there(uri) == [0, 2, 3, 4, 5, 8]
    (Path(uri) / "refs/checkpoint/small/best.json").unlink()
    (Path(uri) / evaluated.manifest_path).unlink()
    assert retention.apply(store, run, 1) == [2, 3]
    assert there(uri) == [0, 4, 5, 8]


def test_the_tag_that_training_set_for_another_run_stays(uri: str) -> None:
    """Two runs of one name: the later one has the tags."""
    trained(uri, 3)
    trained(uri, 3, batch=8)
    store = ArtifactStore(uri)
    assert retention.apply(store, run_file(uri, keep_last=1, keep_every=1000), 1) == [1, 2]
    assert there(uri, batch=8) == [0, 1, 2, 3]


def test_what_comes_into_use_meanwhile_is_put_back(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(uri, 3)
    store, run, delete = ArtifactStore(uri), run_file(uri, keep_last=1, keep_every=1000), Storage.delete

    def used(storage: Storage, path: str) -> None:
        if path == run.checkpoint(1).manifest_path:
            store.tag(run.checkpoint(1), "best")
        delete(storage, path)

    monkeypatch.setattr(Storage, "delete", used)
    assert retention.apply(store, run, 1) == [2]
    assert there(uri) == [0, 1, 3]
    assert store.tags("checkpoint", "small")["step1-tokens0B"] == run.checkpoint(1)


def test_a_collection_under_way_or_a_newer_trainer_puts_it_off(uri: str, caplog: pytest.LogCaptureFixture) -> None:
    trained(uri, 3)
    store, run = ArtifactStore(uri), run_file(uri, keep_last=1, keep_every=1000)
    store.storage.put(gc.RUNNING, b'{"host": "other"}')
    assert retention.apply(store, run, 1) == [] and "another garbage collection" in caplog.text
    store.storage.put(gc.RUNNING, json.dumps({"run": run.ref.address, "epoch": 1}).encode())
    assert retention.apply(store, run, 1) == [], "it may be this very trainer's"
    assert there(uri) == [0, 1, 2, 3]
    trainer = Trainer(run, shard=False)
    assert trainer.epoch == 2
    assert not store.storage.exists(gc.RUNNING), "the mark of a trainer that was killed is taken away"
    assert retention.apply(store, run, 1) == [] and "epoch 2 was taken" in caplog.text
    assert retention.apply(store, run, 2) == [1, 2]


@pytest.mark.parametrize("after", ["refs/", "manifest.json", ".safetensors"])
def test_a_deletion_that_is_cut_off_is_finished_by_the_next(
    after: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off without a chance to clean up, as by SIGKILL: the errors that this raises are not answered."""
    trained(uri, 4)
    store, run, delete = ArtifactStore(uri), run_file(uri, keep_last=1, keep_every=1000), Storage.delete

    class Killed(BaseException):
        pass

    def cut(storage: Storage, path: str) -> None:
        delete(storage, path)
        if after in path:
            monkeypatch.setattr(Storage, "delete", lambda *_: (_ for _ in ()).throw(Killed))
            monkeypatch.setattr(Storage, "put_if_absent", lambda *_: (_ for _ in ()).throw(Killed))
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Storage, "delete", cut)
        monkeypatch = patched
        with pytest.raises(Killed):
            retention.apply(store, run, 1)
    assert store.storage.exists(gc.RUNNING)
    assert all(store.verify(m.ref) == [] for m in store.finished("checkpoint")), "no manifest lacks an object"
    assert Trainer(run, shard=False).epoch == 2
    retention.apply(store, run, 2)
    assert there(uri, steps=5) == [0, 4] and not store.storage.exists(gc.RUNNING)
    assert retention.noted(store, run) == [0, 4]
