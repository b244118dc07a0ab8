"""Slurm jobs: the script, and a real one-machine cluster with jobs that end, are preempted, fail and never began."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from olmo_core.errors import JobError
from tasks.launch import slurm
from tasks.launch.job import LOST, Job, JobSpec
from tasks.launch.slurm import Slurm, SlurmOptions
from tests.launch import slurm_cluster

TASK = "/bin/bash"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm_cluster.SlurmCluster]:
    """A cluster of one machine."""
    slurm_cluster.install()
    found = slurm_cluster.SlurmCluster(tmp_path_factory.mktemp("slurm"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


def job_spec(folder: Path, nodes: int = 1) -> JobSpec:
    run_file = folder / "run.json"
    run_file.write_text("{}")
    return JobSpec(name=f"tiny-{folder.name}", run_file=run_file, folder=folder, processes=2, nodes=nodes, threads=1)


def test_script_asks_for_what_the_options_say(tmp_path: Path) -> None:
    """And is a script that bash can read."""
    options = SlurmOptions(partition="gpu", account="lab", time_limit="2-00:00:00", directives=("--exclusive",))
    text = slurm.script(job_spec(tmp_path, nodes=4), options)
    for line in (
        "--nodes=4",
        "--ntasks-per-node=1",
        "--gpus-per-node=2",
        "--partition=gpu",
        "--account=lab",
        "--exclusive",
    ):
        assert f"\n#SBATCH {line}\n" in text
    assert '--nodes=4 --rendezvous="$first:29500" --id="$SLURM_JOB_ID"' in text
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert "gpus" not in slurm.script(job_spec(tmp_path), SlurmOptions(gpus=False))


def test_without_slurm_the_message_says_where_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JobError, match="launcher: slurm needs the command sbatch"):
        Slurm().start(job_spec(tmp_path))


class Submitted:
    """A job of the real cluster whose task is a few lines of shell in place of torchrun and the trainer."""

    def __init__(self, folder: Path, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
        program = folder / "launch"
        program.write_text(
            '#!/bin/bash\nfor word in "$@"; do case $word in --exit-file=*) exit_file=${word#*=};; esac; done\n'
            f'end() {{ echo $1 > "$exit_file"; exit $1; }}\n{task}\n'
        )
        program.chmod(0o755)
        monkeypatch.setattr(slurm.sys, "executable", str(program))
        self.launcher = Slurm(SlurmOptions(gpus=False))
        self.job = self.launcher.start(job_spec(folder))

    def code(self) -> int:
        deadline = time.monotonic() + 300
        while (code := self.launcher.poll(self.job)) is None:
            assert time.monotonic() < deadline, self.launcher.tail(self.job)
            time.sleep(0.2)
        return code

    def says(self, word: str) -> None:
        deadline = time.monotonic() + 300
        while word not in self.launcher.tail(self.job):
            assert time.monotonic() < deadline, self.launcher.tail(self.job)
            time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize(("task", "code"), [("end 0", 0), ("end 75", 75), ("end 3", 1), ("kill -9 $$", 1)])
def test_exit_codes(
    cluster: slurm_cluster.SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, code: int
) -> None:
    """Held until it is released; the code is known to a launcher that has never seen the job."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
    submitted = Submitted(tmp_path, task, monkeypatch)
    assert submitted.launcher.poll(submitted.job) is None
    submitted.launcher.release(submitted.job)
    assert submitted.code() == code
    assert Slurm().poll(Job(**submitted.job.__dict__)) == code


@pytest.mark.slow
def test_cancel_lets_a_running_job_save_and_takes_a_waiting_one_away(
    cluster: slurm_cluster.SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM to the task, not the end of the job: 75. A held job has nothing to save, and leaves no code."""
    monkeypatch.setenv("SLURM_CONF", str(cluster.configuration))
    submitted = Submitted(tmp_path, "trap 'end 75' TERM; echo runs; while true; do sleep 0.2; done", monkeypatch)
    submitted.launcher.release(submitted.job)
    submitted.says("runs")
    submitted.launcher.cancel(submitted.job)
    assert submitted.code() == 75
    folder = tmp_path / "waiting"
    folder.mkdir()
    waiting = Submitted(folder, "end 0", monkeypatch)
    waiting.launcher.cancel(waiting.job)
    assert waiting.code() == LOST
