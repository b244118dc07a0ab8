"""Real ranks under torchrun that are killed, told to end, or hang: what is left is good, and who was it is said."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train.run_file import DONE, FAILED, PREEMPTED, RunFile
from tests.train.faulty import instances
from tests.train.test_trainer import checkpoint, equal, losses
from tests.train.tiny_run import Job, Ranks, events, metrics, tiny_run, with_resources

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
FAULTY = "tests.train.faulty"


def run_in(folder: Path, ranks: int, *arguments: str, kept: str = "run") -> tuple[int, RunFile, Job]:
    """Train a run of 20 steps whose store is in `folder`; the instances are noted there."""
    (folder / "noted").mkdir(parents=True, exist_ok=True)
    run = tiny_run(folder, steps=20, held_out=True)
    job = Job(run, folder, ranks, module=FAULTY, arguments=("--record", str(folder / "noted"), *arguments))
    return job.wait(), run, job


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFile, dict[int, set[int]]]:
    """20 steps on 2 ranks, and the instances of each batch."""
    folder = tmp_path_factory.mktemp("straight")
    code, run, job = run_in(folder, 2)
    assert code == DONE, job.output
    found = instances(folder / "noted")
    assert [len(found[index]) for index in range(20)] == [8] * 20
    return run, found


@pytest.mark.parametrize(("killed", "resumed"), [(2, 2), (1, 4), (4, 1)])
def test_killed_and_resumed_on_other_ranks(
    killed: int, resumed: int, tmp_path: Path, straight: tuple[RunFile, dict[int, set[int]]]
) -> None:
    code, run, job = run_in(tmp_path, killed, "--kill=*:13", "--after-checkpoint=10")
    assert code == FAILED, job.output
    assert ArtifactStore(run.store).find(run.ref) is None
    code, run, job = run_in(tmp_path, resumed)
    assert code == DONE, job.output
    whole, batches = straight
    (event,) = [one for one in events(run) if one["kind"] == "resumed"]
    assert event["step"] == 10
    found = instances(tmp_path / "noted")
    assert {index: found[index] for index in range(20)} == {index: batches[index] for index in range(20)}
    if killed == resumed == 2:
        assert losses(run)[10:] == losses(whole)[10:]
        assert equal(checkpoint(run, 20), checkpoint(whole, 20))
    assert losses(run) == pytest.approx(losses(whole), rel=1e-5)
    assert metrics(run)[20]["held_out_loss"] == pytest.approx(metrics(whole)[20]["held_out_loss"], rel=1e-5)


def test_a_signal_to_one_rank_ends_all_with_75(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, steps=1000)
    ranks = Ranks(run, tmp_path, 2, module=FAULTY, arguments=("--terminate=1:7",))
    assert ranks.wait() == [PREEMPTED, PREEMPTED], ranks.output
    assert ArtifactStore(run.store).find(run.checkpoint(7)) is not None
    assert events(run)[-1]["kind"] == "preempted"


def test_torchrun_passes_the_signal_on(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, steps=100_000, save_every=100_000)
    job = Job(run, tmp_path, 2)
    job.await_line(lambda line: "step 1/" in line)
    job.process.send_signal(signal.SIGTERM)
    job.wait()
    assert events(run)[-1]["kind"] == "preempted", job.output
    shutil.rmtree(tmp_path / "store" / "run")  # nothing but the checkpoints
    saved = [m.recipe["step"] for m in ArtifactStore(run.store).finished("checkpoint", "toy")]
    assert len(saved) == 2
    assert max(saved) > 0


def test_a_rank_that_is_killed_is_named(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, steps=1000)
    job = Job(run, tmp_path, 2, module=FAULTY, arguments=("--kill=1:7",))
    assert job.wait() == FAILED
    assert "rank 1 died (host" in job.output, job.output
    (event,) = [one for one in events(run) if one["kind"] == "failed"]
    assert event["message"].startswith("rank 1 died")
    assert "no sign of life" in event["message"]


def test_a_rank_that_hangs_is_named_and_nobody_waits(tmp_path: Path) -> None:
    run = with_resources(tiny_run(tmp_path, steps=1000), hang_seconds=20.0)
    ranks = Ranks(run, tmp_path, 2, module=FAULTY, arguments=("--hang=1:7",))
    assert ranks.wait() == [FAILED, FAILED], ranks.output
    assert "rank 1 (host" in ranks.output
    assert "hangs, and the others wait for it; last seen at step 7, computing forward (" in ranks.output
    assert "more than 20 s ago (resources.hang_seconds)" in events(run)[-1]["message"]


def test_an_error_on_one_rank_ends_all(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, steps=1000)
    ranks = Ranks(run, tmp_path, 2, module=FAULTY, arguments=("--fail=1:7",))
    assert ranks.wait() == [FAILED, FAILED], ranks.output
    assert "rank 1 failed while at step 7, computing forward: ValueError: a fault of this rank alone" in ranks.output


def test_a_batch_that_does_not_divide_is_refused_on_all_ranks(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, batch=9)
    ranks = Ranks(run, tmp_path, 2)
    assert ranks.wait() == [FAILED, FAILED], ranks.output
    assert "batch: 9 instances do not divide over 2 ranks" in ranks.output
    assert os.path.exists(tmp_path / "RUN.json")
