"""How train-job finds the job of its run, or starts one: whatever is killed or fails in between, none is left held."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.logging import disable_run_logger

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import StorageError
from tasks import training_job
from tasks.launch.job import LOST, Job, JobSpec, Launcher, record
from tasks.training import TrainingResources
from tasks.training_job import TrainingJob, run_job
from tests.train.tiny_run import tiny_run


class Held:
    """A launcher as of a scheduler: jobs wait in its queue until they are released, whoever started them."""

    name = "slurm"

    def __init__(self) -> None:
        self.jobs: dict[str, str] = {}

    def start(self, spec: JobSpec) -> Job:
        self.jobs[spec.name] = "held"
        return Job(launcher=self.name, id={"number": spec.name}, name=spec.name, log="", started="")

    def release(self, job: Job) -> None:
        self.jobs[job.name] = "runs"

    def poll(self, job: Job) -> int | None:
        return None if job.name in self.jobs else LOST

    def cancel(self, job: Job) -> None:
        self.jobs.pop(job.name)

    def discard(self, job: Job) -> None:
        self.jobs.pop(job.name, None)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Held:
    launcher = Held()
    monkeypatch.setattr(training_job, "launcher", lambda resources, name=None: launcher)
    monkeypatch.setenv("OLMO_HOME", str(tmp_path / "home"))
    return launcher


def training(folder: Path) -> TrainingJob:
    run = tiny_run(folder)
    return TrainingJob(ArtifactStore(run.store), run, TrainingResources(store=run.store))


def test_a_job_whose_starter_died_before_it_let_it_go_is_let_go(held: Held, tmp_path: Path) -> None:
    mine = training(tmp_path)
    job = held.start(mine.spec(1))
    assert record(mine.store, mine.ref, 1, job)
    said: list[str] = []
    assert mine.attach_or_start(said.append)[1] == job
    assert held.jobs == {job.name: "runs"}
    assert said[0].startswith("attached to slurm job")


def test_a_job_that_cannot_be_put_on_record_does_not_stay(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = training(tmp_path)

    def failing(*_: Any) -> bool:
        raise StorageError("the store does not answer")

    monkeypatch.setattr(training_job, "record", failing)
    with pytest.raises(StorageError):
        mine.attach_or_start(lambda _: None)
    assert held.jobs == {}


@pytest.mark.parametrize("there", [True, False])
def test_a_job_is_told_to_end_from_its_first_moment_on(held: Held, tmp_path: Path, there: bool) -> None:
    """The signal comes while "started" or "attached to" is said: the job was left running, and nobody told of it."""

    class Interrupted(TrainingJob):
        def attach_or_start(self, say: Callable[[str], None]) -> tuple[Launcher, Job]:
            def told(words: str) -> None:
                assert list(held.jobs.values()) == ["runs"]
                raise KeyboardInterrupt

            return super().attach_or_start(told)

    run = tiny_run(tmp_path)
    mine = Interrupted(ArtifactStore(run.store), run, TrainingResources(store=run.store))
    if there:
        training(tmp_path).attach_or_start(lambda _: None)
    with disable_run_logger(), pytest.raises(KeyboardInterrupt):
        run_job.fn(mine)
    assert held.jobs == {}


def test_a_job_that_is_gone_is_followed_by_another(held: Held, tmp_path: Path) -> None:
    mine = training(tmp_path)
    held.discard(mine.attach_or_start(lambda _: None)[1])
    said: list[str] = []
    again = mine.attach_or_start(said.append)[1]
    assert again.name.rsplit("-", 1)[0].endswith("-000002") and held.jobs == {again.name: "runs"}
    assert "ended without an exit code; starting anew" in said[0]


def test_of_two_that_start_the_same_number_the_slower_ends_its_own_job_only(held: Held, tmp_path: Path) -> None:
    """Both may be on one machine, and the job of the same run in another store has that number too."""
    mine, other = training(tmp_path), training(tmp_path)
    faster: list[Job] = []

    def start(spec: JobSpec) -> Job:
        job = Held.start(held, spec)
        if not faster:
            faster.append(job)
            assert other.attach_or_start(lambda _: None)[1].name != job.name
        return job

    held.start = start  # type: ignore[method-assign]
    attached = mine.attach_or_start(lambda _: None)[1]
    assert attached.name != faster[0].name and held.jobs == {attached.name: "runs"}
