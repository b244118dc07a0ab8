"""Whole runs in this process, on one rank: steps left out, rollbacks, extensions, what is written, what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, JobError, OlmoError, RecipeError, StorageError, SupersededError
from olmo_core.storage import Storage
from olmo_core.train import checkpoint as checkpoint_module
from olmo_core.train import fence, held_out, retention
from olmo_core.train.checkpoint_read import read_tensors
from olmo_core.train.loader import Batch
from olmo_core.train.preemption import Preemption
from olmo_core.train.recording import put_event
from olmo_core.train.run_file import DONE, PREEMPTED, RunFile
from olmo_core.train.schedule import learning_rate
from olmo_core.train.session import train
from olmo_core.train.state import TrainState
from olmo_core.train.watch import Watch
from tests.train.faulty import spoil
from tests.train.tiny_run import ROOT, events, metrics, tiny_run, with_resources
from tests.train.token_artifacts import tokens_artifact


def checkpoint(run: RunFile, step: int) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint of the run."""
    store = ArtifactStore(run.store)
    return read_tensors(store, store.manifest(run.checkpoint(step)), prefix="")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two checkpoints are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def losses(run: RunFile) -> list[Any]:
    """The loss of each step from 1 on."""
    return [line["loss"] for step, line in sorted(metrics(run).items()) if step]


def test_a_run_learns_and_leaves_its_record(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, steps=60, held_out=True, evaluate_every=20, save_every=30)
    assert train(run) == DONE
    lines = metrics(run)
    assert sorted(lines) == list(range(61))
    assert [step for step, line in lines.items() if "held_out_loss" in line] == [0, 20, 40, 60]
    assert lines[60]["held_out_loss"] < lines[0]["held_out_loss"] - 1
    for step, line in lines.items():
        if step:
            assert line["learning_rate"] == learning_rate(run.recipe, step)
            assert line["targets"] == 8 * 15  # the last position of a chunk has no target
            assert line["tokens"] == step * 8 * 16
            assert line["mfu"] is None
            assert line["grad_norm"] > 0
            assert line["perplexity"] == pytest.approx(np.exp(line["loss"]))
    store = ArtifactStore(run.store)
    manifest = store.manifest(run.ref)
    assert not store.verify(manifest)
    assert [one["step"] for one in manifest.counts["checkpoints"]] == [0, 30, 60]
    assert manifest.counts["loss"] == lines[60]["loss"]
    assert manifest.counts["energy_kwh"] is None
    (started,) = events(run)
    assert started["kind"] == "started"
    assert (started["dropped_tokens"], started["dropped_instances"]) == (5, 0)
    assert train(run) == DONE  # and nothing is trained again
    assert len(events(run)) == 1


def test_parameters_that_stay_gathered_change_no_number(tmp_path: Path) -> None:
    """Held-out losses and checkpoints in between, and a resumption: the same bytes as with parameters gathered twice."""
    how = {"steps": 12, "held_out": True, "evaluate_every": 4, "save_every": 4}
    twice = tiny_run(tmp_path / "twice", **how)
    once = tiny_run(tmp_path / "once", **how, reshard_after_forward=False)
    asked = Preemption()

    def ask(step: int, index: int, loss: torch.Tensor) -> torch.Tensor:
        if step == 6:
            asked.signal, asked.since = "SIGTERM", time.monotonic()
        return loss

    assert train(twice) == DONE
    assert train(once, asked, hook=ask) == PREEMPTED
    assert train(once) == DONE
    assert losses(once) == losses(twice)
    assert [metrics(once)[step]["held_out_loss"] for step in (0, 4, 8, 12)] == [
        metrics(twice)[step]["held_out_loss"] for step in (0, 4, 8, 12)
    ]
    assert equal(checkpoint(once, 12), checkpoint(twice, 12))


def test_a_step_that_is_not_finite_leaves_everything_as_it_was(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, steps=9, save_every=1)
    assert train(run, hook=spoil(5, 6)) == DONE
    lines = metrics(run)
    assert (lines[6]["loss"], lines[6]["skipped"], lines[6]["targets"]) == (None, 1, 0)
    assert lines[7]["loss"] < lines[1]["loss"]
    assert "not-finite" in {one["kind"] for one in events(run)}
    assert not ArtifactStore(run.store).find(run.checkpoint(6))  # it would be that of step 5
    # The last step is saved in any case.
    last = tiny_run(tmp_path, steps=9, save_every=1, name="last")
    assert train(last, hook=spoil(8, 9)) == DONE
    assert equal(checkpoint(last, 9), checkpoint(last, 8))
    assert not equal(checkpoint(last, 8), checkpoint(last, 7))


@pytest.mark.parametrize("log_every", [1, 7])
def test_many_in_a_row_roll_back_and_leave_their_data_out(tmp_path: Path, log_every: int) -> None:
    run = tiny_run(tmp_path, steps=30, save_every=10, skip_limit=4, log_every=log_every)
    assert train(run, hook=spoil(12, 18)) == DONE
    (rollback,) = [one for one in events(run) if one["kind"] == "rollback"]
    assert (rollback["step"], rollback["first_step"], rollback["last_step"], rollback["skipped"]) == (
        10,
        13,
        16,
        [12, 16],
    )
    counts = ArtifactStore(run.store).manifest(run.ref).counts
    assert counts["skipped"] == [[12, 16]]
    # Batches 16 and 17 are bad too, but no streak of four: left out on their own, at steps 13 and 14.
    assert [step for step, line in metrics(run).items() if line.get("skipped")] == (
        [13, 14] if log_every == 1 else [14]
    )
    assert counts["steps"] == 30
    assert all(torch.isfinite(one).all() for one in checkpoint(run, 30).values())


def test_rollbacks_one_after_the_other(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, steps=20, save_every=2, skip_limit=4)
    assert train(run, hook=spoil(10, 18)) == DONE
    rollbacks = [one for one in events(run) if one["kind"] == "rollback"]
    assert [(one["step"], one["first_step"], one["skipped"]) for one in rollbacks] == [
        (10, 11, [10, 14]),
        (10, 11, [14, 18]),
    ]
    lines = metrics(run)
    assert not any("skipped" in line for line in lines.values())
    assert [line["step"] for line in lines.values() if line.get("loss") is None] == []
    assert train(with_resources(run, save_every=3)) == DONE


def test_a_checkpoint_that_cannot_be_saved_is_told_and_two_in_a_row_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, broken = checkpoint_module.write_slices, [5]

    def failing(storage: Storage, folder: str, rank: int, slices: Any) -> Any:
        if any(f"/{run.checkpoint(step).fingerprint[:12]}/" in folder for step in broken for run in (once, twice)):
            raise StorageError("no space left on device")
        return write(storage, folder, rank, slices)

    monkeypatch.setattr(checkpoint_module, "write_slices", failing)
    twice = tiny_run(tmp_path, steps=20, save_every=5, name="twice")
    once = tiny_run(tmp_path, steps=20, save_every=5)
    assert train(once) == DONE
    assert [one["kind"] for one in events(once)] == ["started", "not-saved"]
    assert "step 5 was not saved" in events(once)[1]["message"]
    broken.append(10)
    with pytest.raises(StorageError, match="step 10 was not saved, and the ones before are whole: no space left"):
        train(twice)
    broken.clear()
    assert train(twice) == DONE
    assert losses(twice) == losses(once)


def test_a_save_that_cannot_even_begin_is_borne_as_one_that_fails_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, broken = retention.record, {5}

    def failing(store: ArtifactStore, run: RunFile, state: TrainState) -> None:
        if state.step in broken:
            raise StorageError("the store does not answer")
        note(store, run, state)

    monkeypatch.setattr(retention, "record", failing)
    once = tiny_run(tmp_path, steps=20, save_every=5, name="once")
    assert train(once) == DONE
    assert [one["kind"] for one in events(once)] == ["started", "not-saved"]
    store = ArtifactStore(once.store)
    assert [store.find(once.checkpoint(step)) is not None for step in (0, 5, 10)] == [True, False, True]
    broken.add(10)
    with pytest.raises(StorageError, match="step 10 was not saved, and the ones before are whole: the store does not"):
        train(tiny_run(tmp_path, steps=20, save_every=5, name="twice"))
    broken.add(0)
    with pytest.raises(InputError, match="in steps 2 to 4, and there is no checkpoint to go back to"):
        train(tiny_run(tmp_path, steps=20, skip_limit=3, name="never"), hook=spoil(1, 9))


def test_a_run_that_cannot_recover_ends_with_a_message(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, steps=40, skip_limit=3)
    with pytest.raises(InputError, match=r"after 3 rollbacks to the checkpoint of step 10.*learning_rate"):
        train(run, hook=spoil(14, 1000))
    assert events(run)[-1]["kind"] == "failed"
    assert ArtifactStore(run.store).find(run.ref) is None


def test_a_trainer_that_was_taken_over_fails_under_its_own_epoch(tmp_path: Path) -> None:
    """What the one that took over has told last stays the run's last event."""
    run = tiny_run(tmp_path, steps=12, save_every=4)
    store = ArtifactStore(run.store)

    def take_over(step: int, index: int, loss: torch.Tensor) -> torch.Tensor:
        if step == 6:
            put_event(
                store, run.ref, fence.claim(store, run.ref), {"kind": "started", "message": "by another", "epoch": 2}
            )
        return loss

    with pytest.raises(SupersededError, match="holds epoch 1, but epoch 2"):
        train(run, hook=take_over)
    assert [(one["kind"], one["epoch"]) for one in events(run)] == [("started", 1), ("failed", 1), ("started", 2)]
    assert events(run)[1]["time"]


def test_a_signal_saves_and_the_next_start_goes_on_bit_by_bit(tmp_path: Path) -> None:
    whole, cut = tiny_run(tmp_path / "a", steps=20, held_out=True), tiny_run(tmp_path / "b", steps=20, held_out=True)
    assert train(whole) == DONE
    preemption = Preemption().listen()

    def hook(step: int, index: int, loss: torch.Tensor) -> torch.Tensor:
        if step == 13:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss

    try:
        assert train(cut, preemption, hook=hook) == PREEMPTED
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    assert preemption.signal == "SIGTERM"
    assert ArtifactStore(cut.store).find(cut.checkpoint(13)) is not None
    assert [one["kind"] for one in events(cut)] == ["started", "preempted"]
    assert train(with_resources(cut, log_every=3)) == DONE
    assert events(cut)[-1]["message"].startswith("resumed from step 13")
    assert equal(checkpoint(whole, 20), checkpoint(cut, 20))
    assert metrics(cut)[20]["held_out_loss"] == metrics(whole)[20]["held_out_loss"]


def test_a_signal_amid_held_out_tokens_leaves_them_and_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, preemption, batches = tiny_run(tmp_path, held_out=True), Preemption(), held_out.evaluation_batches

    def told(*arguments: Any, **options: Any) -> Iterator[Batch]:
        for number, batch in enumerate(batches(*arguments, **options)):
            if number == 1 and metrics(run):  # not those of step 0
                preemption._note(signal.SIGTERM, None)
            yield batch

    monkeypatch.setattr(held_out, "evaluation_batches", told)
    assert train(run, preemption) == PREEMPTED
    assert ArtifactStore(run.store).find(run.checkpoint(10)) is not None
    assert metrics(run)[10]["loss"] and "held_out_loss" not in metrics(run)[10]
    assert events(run)[-1]["message"] == "SIGTERM: saved step 10"
    assert train(run) == DONE
    assert "held_out_loss" in metrics(run)[20]


def test_a_signal_amid_the_last_evaluation_saves_and_the_next_start_makes_up_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = tiny_run(tmp_path, held_out=True, name="whole"), tiny_run(tmp_path, held_out=True)
    assert train(whole) == DONE
    batches, told = held_out.evaluation_batches, Preemption()

    def at_the_end(*arguments: Any, **options: Any) -> Iterator[Batch]:
        for number, batch in enumerate(batches(*arguments, **options)):
            if number == 1 and store.find(run.checkpoint(10)) is not None:
                told._note(signal.SIGTERM, None)
            yield batch

    store = ArtifactStore(run.store)
    monkeypatch.setattr(held_out, "evaluation_batches", at_the_end)
    assert train(run, told) == PREEMPTED
    assert store.find(run.checkpoint(20)) is not None and store.find(run.ref) is None
    assert "held_out_loss" not in metrics(run)[20] and events(run)[-1]["message"] == "SIGTERM: saved step 20"
    told = Preemption()
    assert train(run, told) == PREEMPTED  # again no time for it
    monkeypatch.undo()
    assert train(run) == DONE
    found = {key: metrics(run)[20][key] for key in ("loss", "held_out_loss", "targets")}
    assert found == {key: metrics(whole)[20][key] for key in found}
    assert store.manifest(run.ref).counts["held_out_loss"] == found["held_out_loss"]
    assert [kind for one in events(run) if (kind := one["kind"]) != "resumed"] == ["started", "preempted", "preempted"]


def test_waiting_for_a_checkpoint_is_not_hanging_and_has_a_limit_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, signs, endless = checkpoint_module.write_slices, threading.Semaphore(0), threading.Event()

    def alive(watch: Watch) -> None:
        signs.release()

    def slow(storage: Storage, folder: str, rank: int, slices: Any) -> Any:
        if f"/{run.checkpoint(20).fingerprint[:12]}/" in folder:
            assert signs.acquire(timeout=60)
        if f"/{never.checkpoint(20).fingerprint[:12]}/" in folder:
            endless.wait(60)
        return write(storage, folder, rank, slices)

    monkeypatch.setattr(Watch, "alive", alive)
    monkeypatch.setattr(checkpoint_module, "write_slices", slow)
    run, never = tiny_run(tmp_path, save_every=20), tiny_run(tmp_path, name="never", save_every=20, commit_seconds=3)
    assert train(run) == DONE
    with pytest.raises(JobError, match=r"step 20 was not committed within 3 s \(resources.commit_seconds\)"):
        train(never)
    endless.set()


def test_a_run_is_extended_to_more_tokens(tmp_path: Path) -> None:
    schedule = {"kind": "constant"}
    whole, short = tiny_run(tmp_path, steps=30, **schedule), tiny_run(tmp_path, steps=20, name="short", **schedule)
    longer = replace(tiny_run(tmp_path, steps=30, name="longer", **schedule), start=short.checkpoint(20))
    for run in (whole, short, longer):
        assert train(run) == DONE
    assert sorted(metrics(longer)) == list(range(21, 31))
    assert losses(longer) == losses(whole)[20:]
    assert equal(checkpoint(longer, 30), checkpoint(whole, 30))
    assert events(longer)[0]["kind"] == "extended"
    with pytest.raises(RecipeError, match="tokens: 1,280 are reached at step 10, but the checkpoint .* is of step 20"):
        train(replace(tiny_run(tmp_path, steps=10, name="less", **schedule), start=short.checkpoint(20)))


def refused(run: RunFile, kind: type[OlmoError], words: str) -> None:
    """The run ends with an error of these words, and has published nothing."""
    with pytest.raises(kind, match=words):
        train(run)
    assert ArtifactStore(run.store).find(run.ref) is None


def test_bad_input_is_named_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny_run(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    refused(
        with_resources(run, device="cuda"),
        RecipeError,
        r"resources.device: cuda, but .* no GPU here.*set resources.device",
    )
    refused(with_resources(run, micro_batch=0), RecipeError, r"resources.micro_batch: 0; it must be at least 1")
    refused(with_resources(run, recompute="cheap"), RecipeError, r"resources.recompute: cheap .* set resources.compile")
    refused(tiny_run(tmp_path, anneal_steps=99), RecipeError, r"schedule.anneal_steps: 99 of a run of 20 steps")
    refused(tiny_run(tmp_path, batch=400), InputError, "batch")
    store = ArtifactStore(run.store)
    tokens = tokens_artifact(store, [np.full(16 * 100, 63, np.uint16)], name="other").ref
    refused(replace(run, tokens=tokens), InputError, "model.vocabulary")
    gone = ArtifactRef(kind=run.tokens.kind, name="toy", fingerprint="0" * 64)
    refused(replace(run, tokens=gone), OlmoError, "toy")


def test_other_tokens_do_not_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, steps=10)
    assert train(run) == DONE
    store = ArtifactStore(run.store)
    tokens = tokens_artifact(store, [np.ones(16 * 200, np.uint16)], name="other").ref
    other = replace(run, tokens=tokens, start=run.checkpoint(10), recipe=replace(run.recipe, tokens=20 * 128))
    refused(other, RecipeError, "trained on the dataset")


def test_metrics_go_to_tensorboard_too(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tiny_run(tmp_path, steps=3, tensorboard=str(tmp_path / "board"))
    assert train(run) == DONE
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (tmp_path / "board").iterdir()
    found = EventAccumulator(str(folder))
    found.Reload()
    assert [(one.step, one.value) for one in found.Scalars("loss")] == [
        (step, pytest.approx(loss)) for step, loss in enumerate(losses(run), 1)
    ]


def test_a_package_that_is_missing_is_named(tmp_path: Path) -> None:
    refused(tiny_run(tmp_path, wandb_project="x"), RecipeError, r"resources.wandb_project: x, but the package wandb")


def test_the_trainer_needs_nothing_but_torch_and_the_core() -> None:
    """The machines that train have no Prefect, and numba must not be loaded beside torch."""
    code = (
        "import sys, olmo_core.train.session, olmo_core.train.baselines\n"
        "unwanted = {'numba', 'prefect', 'pydantic', 'boto3', 's3fs', 'transformers', 'tokenizers', 'orjson', 'matplotlib'}\n"
        "print(sorted(unwanted & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"
