"""What goes wrong with checkpoints: killed and full while saving, damaged or of another run while loading, two trainers."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError, RecipeError, StorageError, SupersededError, WorkerError
from olmo_core.model.config import ModelRecipe
from olmo_core.storage import Storage
from olmo_core.train import checkpoint_write, fence
from olmo_core.train.checkpoint import Checkpointer
from olmo_core.train.recipe import DataRecipe
from tests.train.processes import run_ranks
from tests.train.small_run import MODEL, Trainer, run_file, same


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "store")


def alone(uri: str, **options: Any) -> Trainer:
    """A trainer without ranks."""
    return Trainer(run_file(uri), shard=False, **options)


def newest(uri: str) -> Manifest:
    """The manifest that is tagged `latest`."""
    store = ArtifactStore(uri)
    return store.manifest(store.resolve("checkpoint/small"))


def checkpoint_files(uri: str) -> set[str]:
    return {one.path for one in Storage(uri).walk("checkpoint")}


# killed
def killed_while_saving(rank: int, world: int, uri: str) -> str:
    """Save step 2; rank 1 is killed when it has written one object. Returns what rank 0 is told."""
    trainer = Trainer(run_file(uri))
    trainer.train(1)
    trainer.save()
    trainer.train(1)
    write = checkpoint_write.write_file

    def deadly(*arguments: Any) -> Any:
        places = write(*arguments)
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return places

    checkpoint_write.write_file = deadly  # type: ignore[assignment]
    with pytest.raises(WorkerError) as told:
        trainer.save()
    return str(told.value)


def saves_again(rank: int, world: int, uri: str) -> int:
    """Go on from what is there, and save step 2."""
    trainer = Trainer(run_file(uri), seed=5)
    assert trainer.load().step == 1
    trainer.train(1)
    trainer.save()
    return trainer.epoch


def test_a_rank_killed_while_saving_leaves_nothing_visible(uri: str, tmp_path: Path) -> None:
    told, _ = run_ranks(2, killed_while_saving, tmp_path, uri, killed=True)
    assert "a rank does not answer" in told and "goes on from its last checkpoint" in told
    store, second = ArtifactStore(uri), run_file(uri).checkpoint(2)
    assert newest(uri).counts["step"] == 1 and store.find(second) is None
    assert list(store.tags("checkpoint", "small")) == ["latest", "step1-tokens0B"]
    left = {p for p in checkpoint_files(uri) if p.startswith(second.address)}
    assert run_ranks(2, saves_again, tmp_path, uri) == [2, 2]
    manifest = newest(uri)
    assert manifest.ref == second and store.verify(manifest) == []
    assert not left & checkpoint_files(uri), "what was cut off is cleaned up"
    assert len(store.storage.folders(second.address)) == 1


def killed_before_tags(rank: int, world: int, uri: str) -> None:
    """Save; be killed when the manifest is put, and nothing after it."""
    trainer = Trainer(run_file(uri))
    trainer.train(1)
    trainer.checkpoints._tag = lambda _: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    trainer.save()


def test_tags_are_set_by_the_next_trainer_if_one_dies_before(uri: str, tmp_path: Path) -> None:
    run_ranks(1, killed_before_tags, tmp_path, uri, killed=True)
    assert ArtifactStore(uri).tags("checkpoint", "small") == {}
    assert alone(uri).load().step == 1
    assert set(ArtifactStore(uri).tags("checkpoint", "small")) == {"latest", "step1-tokens0B"}


# full
@contextmanager
def full(size: int = 4000) -> Iterator[None]:
    """Let no file become larger, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_on_one_rank(rank: int, world: int, uri: str) -> str:
    """Save step 2 while rank 1 cannot write, step 3 when it can again."""
    trainer = Trainer(run_file(uri))
    trainer.train(1)
    trainer.save()
    trainer.train(1)
    if rank == 1:
        with full(500):
            trainer.checkpoints.save(trainer.state())
            trainer.train(1)  # meanwhile
            with pytest.raises(StorageError) as told:
                trainer.checkpoints.wait()
    else:
        trainer.checkpoints.save(trainer.state())
        trainer.train(1)
        with pytest.raises(StorageError) as told:
            trainer.checkpoints.wait()
    assert trainer.checkpoints.wait() is None, "it is told once"
    trainer.save()
    return str(told.value)


def test_a_full_disk_on_one_rank_is_told_to_all_and_the_run_goes_on(uri: str, tmp_path: Path) -> None:
    first, second = run_ranks(2, full_on_one_rank, tmp_path, uri)
    assert first == second
    assert "checkpoint of step 2 was not saved, and the ones before are whole: rank 1: cannot write" in first
    run, store = run_file(uri), ArtifactStore(uri)
    assert [store.find(run.checkpoint(s)) is not None for s in (1, 2, 3)] == [True, False, True]
    assert not any(p.startswith(run.checkpoint(2).address) for p in checkpoint_files(uri)), "no room is wasted"
    assert store.verify(run.checkpoint(1)) == store.verify(run.checkpoint(3)) == []
    assert newest(uri).ref == run.checkpoint(3)


def test_an_error_in_the_background_comes_with_the_next_save(uri: str) -> None:
    trainer = alone(uri)
    with full(500):
        trainer.save(wait=False)
        with pytest.raises(StorageError, match="step 0 was not saved"):
            trainer.save(wait=False)
    assert trainer.checkpoints.latest() is None
    trainer.save()
    assert newest(uri).counts["step"] == 0


def test_a_save_that_takes_too_long_is_an_error_and_ends_later(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, go, write = alone(uri), threading.Event(), checkpoint_write.write_file

    def slow(*arguments: Any) -> Any:
        assert go.wait(30)
        return write(*arguments)

    monkeypatch.setattr(checkpoint_write, "write_file", slow)
    trainer.train(1)
    before = trainer.whole()
    with pytest.raises(StorageError, match="not committed within 0 s.*resources.save_seconds"):
        trainer.save(timeout=0.01)
    trainer.train(1)  # the copy does not change
    go.set()
    manifest = trainer.checkpoints.wait()
    assert manifest is not None and manifest.counts["step"] == 1
    trainer.load()
    assert same(trainer.whole(), before)


# damaged or of something else
def spoil(uri: str, key: str, change: Callable[[bytes], bytes]) -> str:
    path = newest(uri).object(key).path
    full_path = Path(uri) / path
    full_path.write_bytes(change(full_path.read_bytes()))
    return path


def flip(raw: bytes) -> bytes:
    """Change the last bit."""
    return raw[:-1] + bytes([raw[-1] ^ 1])


def load_damaged(rank: int, world: int, uri: str) -> str:
    trainer = Trainer(run_file(uri))
    with pytest.raises(IntegrityError) as told:
        trainer.load()
    return str(told.value)


def test_a_damaged_slice_is_told_to_all_ranks_with_its_tensor(uri: str, tmp_path: Path) -> None:
    trainer = alone(uri)
    trainer.train(1)
    trainer.save()
    path = spoil(uri, "rank-00000-000.safetensors", flip)
    first, second = run_ranks(2, load_damaged, tmp_path, uri)
    assert first == second and path in first and "step 1" in first
    assert "step from []: sha256" in first, "the last tensor of the file"
    assert f"delete {newest(uri).ref.manifest_path}" in first


@pytest.mark.parametrize(
    "key, change, message",
    [
        ("rank-00000-000.safetensors", lambda raw: raw[:-2], "step: the object ends before byte"),
        ("index.json", flip, "the index has another sha256"),
    ],
)
def test_cut_objects_and_a_damaged_index(uri: str, key: str, change: Any, message: str) -> None:
    trainer = alone(uri)
    trainer.train(1)
    trainer.save()
    spoil(uri, key, change)
    with pytest.raises(IntegrityError, match=message):
        alone(uri).load()


def test_after_a_damaged_checkpoint_the_one_before_is_taken(uri: str) -> None:
    trainer = alone(uri)
    for _ in range(2):
        trainer.train(1)
        trainer.save()
    damaged = newest(uri)
    (Path(uri) / damaged.object("rank-00000-000.safetensors").path).unlink()
    with pytest.raises(StorageError, match="it is not there"):
        alone(uri).load()
    (Path(uri) / damaged.ref.manifest_path).unlink()
    again = alone(uri)
    assert again.load().step == 1
    again.train(1)
    again.save()
    assert newest(uri).ref == damaged.ref and ArtifactStore(uri).verify(newest(uri)) == []


def test_another_model_recipe_or_dataset_is_refused_before_anything_changes(uri: str) -> None:
    trainer = alone(uri)
    trainer.train(1)
    trainer.save()
    manifest = newest(uri)
    wide = Trainer(run_file(uri, model=ModelRecipe(**{**MODEL.__dict__, "width": 8})), shard=False)
    with pytest.raises(RecipeError, match="of another recipe: model.width: 6 -> 8"):
        wide.checkpoints.load(manifest)
    long = Trainer(run_file(uri, data=DataRecipe(sequence_length=4)), shard=False)
    with pytest.raises(RecipeError, match=r"data.sequence_length: 8 -> 4 .*olmo artifacts show checkpoint/small/"):
        long.checkpoints.load(manifest)
    more = Trainer(run_file(uri, tokens=20_000), shard=False, seed=9)
    before = more.whole()
    with pytest.raises(RecipeError, match="tokens: .* trained on the dataset d0, the run now has d1"):
        more.checkpoints.load(manifest, dataset="d1")
    assert same(more.whole(), before)
    assert more.checkpoints.load(manifest, dataset="d0").step == 1, "a larger budget is no other recipe"
    other = nn.Linear(6, 5)
    with pytest.raises(
        RecipeError, match=r"another model: it has no model.bias; it has no model.weight; it has model.blocks"
    ):
        Checkpointer(ArtifactStore(uri), run_file(uri), 9, other).load(manifest)


def test_what_is_no_checkpoint_is_refused(uri: str) -> None:
    trainer = alone(uri)
    trainer.save()
    manifest = newest(uri)
    other = Manifest(**{**manifest.__dict__, "ref": run_file(uri).ref})
    with pytest.raises(RecipeError, match="run/small/.* is no checkpoint"):
        trainer.checkpoints.load(other)


# two trainers
def test_a_trainer_that_was_taken_over_may_not_commit(uri: str) -> None:
    stale = alone(uri)
    stale.train(1)
    stale.save()
    fresh = alone(uri)
    assert (stale.epoch, fresh.epoch) == (1, 2)
    fresh.load()
    stale.train(1)
    files = checkpoint_files(uri)
    with pytest.raises(SupersededError, match=rf"holds epoch 1, but epoch 2 was taken on .* \(process {os.getpid()}\)"):
        stale.save()
    assert checkpoint_files(uri) == files, "it does not even begin"


def test_a_trainer_that_is_taken_over_while_it_saves_may_not_commit(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stale, write = alone(uri), checkpoint_write.write_file
    run = run_file(uri)

    def overtaken(*arguments: Any) -> Any:
        fence.claim(ArtifactStore(uri), run.ref)
        return write(*arguments)

    monkeypatch.setattr(checkpoint_write, "write_file", overtaken)
    with pytest.raises(SupersededError, match="step 0 was not saved.*epoch 2 was taken"):
        stale.save()
    assert checkpoint_files(uri) == set() and ArtifactStore(uri).find(run.checkpoint(0)) is None


def test_two_trainers_that_commit_the_same_step_at_once(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is put, the other takes it: the fence was asked too early by the one that is stale."""
    stale, fresh, publish = alone(uri), alone(uri), ArtifactStore.publish
    assert fresh.epoch == 2
    monkeypatch.setattr(fence, "check", lambda *_: None)

    def late(store: ArtifactStore, manifest: Manifest) -> Any:
        monkeypatch.setattr(ArtifactStore, "publish", publish)
        fresh.save()
        return publish(store, manifest)

    monkeypatch.setattr(ArtifactStore, "publish", late)
    stale.save()
    manifest = newest(uri)
    assert manifest.counts["epoch"] == 2 and ArtifactStore(uri).verify(manifest) == []
    assert ArtifactStore(uri).storage.folders(manifest.ref.address) == [manifest.attempt], "the loser cleans up"


def test_a_checkpoint_that_is_there_is_kept_and_another_state_refused(uri: str) -> None:
    trainer = alone(uri)
    trainer.train(1)
    trainer.save()
    attempt = newest(uri).attempt
    trainer.save()
    assert newest(uri).attempt == attempt
    with pytest.raises(IntegrityError, match="next_batch: 1 -> 9"):
        trainer.checkpoints.save(trainer.state(next_batch=9))


def test_every_claim_gets_its_own_epoch(uri: str) -> None:
    store, run = ArtifactStore(uri), run_file(uri).ref
    with ThreadPoolExecutor(8) as threads:
        numbers = list(threads.map(lambda _: fence.claim(store, run), range(16)))
    assert sorted(numbers) == list(range(1, 17))
    assert fence.holder(store, run, 3).process == os.getpid()
    fence.check(store, run, 16)
    store.storage.put(f"{run.address}/epochs/000017.json", json.dumps({"host": "x"}).encode())
    with pytest.raises(SupersededError, match="epoch 17 was taken on unknown"):
        fence.check(store, run, 16)
