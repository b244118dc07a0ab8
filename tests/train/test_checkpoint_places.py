"""Checkpoints where room is short: on S3, on a disk that is full, and in a host's memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from olmo_core.artifacts.store import ArtifactStore
from tests.train.processes import run_ranks
from tests.train.small_run import Trainer, run_file, same, saved

ROOT = Path(__file__).resolve().parents[2]


def save_to_bucket(rank: int, world: int, uri: str, folder: Path) -> None:
    """Save four steps, keep the newest one, and keep whole what was saved last."""
    trainer = Trainer(run_file(uri, keep_last=1, keep_every=1000))
    for _ in range(4):
        trainer.save()
        trainer.train(1)
    trainer.checkpoints.close()
    whole = trainer.whole()
    if rank == 0:
        torch.save(whole, folder / "whole.pt")


def load_from_bucket(rank: int, world: int, uri: str, folder: Path) -> None:
    """Load step 3; go on to what was trained without a break."""
    trainer = Trainer(run_file(uri), seed=world)
    assert trainer.load(dataset="d0").step == 3
    trainer.train(1)
    assert same(trainer.whole(), saved(folder)) or world != 2


@pytest.mark.s3
def test_on_s3(bucket: str, tmp_path: Path) -> None:
    uri = f"s3://{bucket}/some/store"
    run_ranks(2, save_to_bucket, tmp_path, uri, tmp_path)
    store, run = ArtifactStore(uri), run_file(uri)
    assert [s for s in range(5) if store.find(run.checkpoint(s))] == [0, 3]
    assert store.verify(store.resolve("checkpoint/small@step3-tokens0B")) == []
    assert {one.path.split("/")[2] for one in store.storage.walk("checkpoint")} == {
        run.checkpoint(s).fingerprint[:12] for s in (0, 3)
    }
    for world in (1, 2):
        run_ranks(world, load_from_bucket, tmp_path, uri, tmp_path)


FULL = """
import sys
from tests.train.small_run import Trainer, run_file
from olmo_core.errors import StorageError
uri = sys.argv[1] + "/store"
trainer = Trainer(run_file(uri), shard=False)
trainer.train(1)
trainer.save()
with open(sys.argv[1] + "/rest", "wb", buffering=0) as rest:
    try:
        while rest.write(b"x" * 4096):
            pass
    except OSError:
        pass
trainer.train(1)
try:
    trainer.save()
except StorageError as error:
    print(error)
import os
os.truncate(sys.argv[1] + "/rest", 0)
trainer.save()
print([m.counts["step"] for m in trainer.store.finished("checkpoint") if not trainer.store.verify(m)])
"""


@pytest.mark.slow
def test_on_a_disk_that_is_full(tmp_path: Path) -> None:
    """A file system of 300 kB in a namespace of its own, for which no rights are needed where the kernel allows it."""
    mount = f"mount -t tmpfs -o size=300k tmpfs {tmp_path} && exec {sys.executable} -c '{FULL}' {tmp_path}"
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no user namespaces here: RLIMIT_FSIZE alone stands for a full disk (test_checkpoint_failures.py)")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    message, steps = done.stdout.strip().splitlines()
    assert "no space left, or a quota is used up; free some room" in message and "the ones before are whole" in message
    assert sorted(eval(steps)) == [1, 2]


MEMORY = """
import resource, sys, torch
from torch import nn
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train.checkpoint import Checkpointer
from tests.train.small_run import run_file, TrainState
torch.set_num_threads(1)
model = nn.ParameterList([nn.Parameter(torch.ones(1 << 20, 32)) for _ in range(3)])
checkpoints = Checkpointer(ArtifactStore(sys.argv[1]), run_file(sys.argv[1]), 1, model)
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
checkpoints.save(TrainState(step=1, tokens=1, next_batch=1), wait=True)
saved = peak()
checkpoints.load(checkpoints.latest())
print(saved - before, peak() - saved)
"""


@pytest.mark.slow
def test_a_save_holds_one_copy_and_a_load_a_few_slices(tmp_path: Path) -> None:
    """Of 384 MiB in parameters."""
    command = [sys.executable, "-c", MEMORY, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    saving, loading = map(int, done.stdout.split())
    whole, some = 3 * (1 << 27), 48 << 20
    assert saving < whole + some, f"{saving / whole:.2f} copies"
    assert loading < 2 * 4 * (64 << 20), "four slices at a time, each twice; much of it is what saving left"
    objects = [one.size for one in ArtifactStore(str(tmp_path / "store")).storage.walk("checkpoint")]
    assert len(objects) == 4, "one object of slices, the index, the mark and the manifest"
