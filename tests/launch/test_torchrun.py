"""Jobs on this machine: found again by another process, told from a reused number, ended with all that is theirs."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from olmo_core import processes
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError, JobError
from olmo_core.train.launch import (
    EXIT_CODES,
    FAILED,
    last_word,
    leave_code,
    leave_failure,
    leave_word,
    rank_codes,
    write_code,
)
from tasks.launch.job import LOST, Job, JobSpec, last_recorded, last_words, record
from tasks.launch.torchrun import MARK, Torchrun

RUN = ArtifactRef(kind=Kind.RUN, name="tiny", fingerprint="0" * 64)
SAVES = "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), sys.exit(75)))\nprint('runs', flush=True)\ntime.sleep(600)\n"


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], JobSpec]]:
    """Makes jobs whose whole process group is one small Python program in place of torchrun and the trainer."""

    def make(code: str) -> JobSpec:
        interpreter = tmp_path / "python"
        program = tmp_path / "program.py"
        program.write_text(
            "import sys\nexit_file = next(w.split('=')[1] for w in sys.argv if w.startswith('--exit-file'))\n"
            "if sys.stdin.readline() != 'go\\n': sys.exit(1)\n"
            f"try:\n    exec({code!r})\nexcept SystemExit as e:\n    open(exit_file, 'w').write(str(e.code)); raise\n"
        )
        interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
        interpreter.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(interpreter))
        run_file = tmp_path / "run.json"
        run_file.write_text("{}")
        return JobSpec(name=f"job-{tmp_path.name}", run_file=run_file, folder=tmp_path, processes=1, threads=1)

    yield make
    processes.end(processes.carrying(**{MARK: f"job-{tmp_path.name}"}), grace=2)


def ended(launcher: Torchrun, job: Job) -> int:
    deadline = time.monotonic() + 300
    while (code := launcher.poll(job)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return code


def printed(launcher: Torchrun, job: Job) -> list[str]:
    deadline = time.monotonic() + 300
    while not (lines := launcher.tail(job)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return lines


def test_another_process_finds_the_job_waits_for_it_and_ends_it(spec: Callable[[str], JobSpec]) -> None:
    """Only what the record holds is used: the second launcher has never seen the first."""
    first, second = Torchrun(), Torchrun()
    job = first.start(spec(SAVES))
    assert first.poll(job) is None and not first.tail(job), "held until it is released"
    first.release(job)
    assert printed(second, job) == ["runs"]
    found = Job(**{**job.__dict__, "id": dict(job.id)})
    assert second.poll(found) is None
    second.cancel(found)
    assert ended(second, found) == 75 == ended(first, job)


def test_a_job_that_is_killed_has_no_code(spec: Callable[[str], JobSpec]) -> None:
    launcher = Torchrun()
    job = launcher.start(spec("import time; print('runs', flush=True); time.sleep(600)"))
    launcher.release(job)
    printed(launcher, job)
    launcher.discard(job)
    assert ended(launcher, job) == LOST
    assert processes.carrying(**{MARK: job.name}) == []


def test_reused_number_and_other_machine_are_not_the_job(spec: Callable[[str], JobSpec]) -> None:
    """Number and start time must agree, and the start time holds the boot of the machine."""
    launcher = Torchrun()
    job = launcher.start(spec("import time; time.sleep(600)"))
    assert job.id["host"] == socket.gethostname()
    other = replace(job, id={**job.id, "started": "another boot:1"}, log=job.log + ".none")
    assert launcher.poll(other) == LOST
    launcher.cancel(other)
    assert launcher.poll(job) is None, "left alone"


def test_job_is_no_part_of_the_flow_run(spec: Callable[[str], JobSpec], monkeypatch: pytest.MonkeyPatch) -> None:
    """`olmo up` takes a flow run for alive as long as a process carries its id: its job must not."""
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "1-2-3")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "a:b")
    job = Torchrun().start(spec("pass"))
    environment = processes.environment_of(int(job.id["pid"]))
    assert not [name for name in environment if name.startswith("PREFECT_")]
    assert (environment[MARK], environment["OMP_NUM_THREADS"]) == (job.name, "1")


def test_more_machines_are_refused(spec: Callable[[str], JobSpec]) -> None:
    with pytest.raises(JobError, match="nodes: 2; the launcher torchrun works on this machine only"):
        Torchrun().start(replace(spec("pass"), nodes=2))


def test_records_are_put_once_and_the_last_is_found(tmp_path: Path) -> None:
    """Of two flow runs that start a job at the same time one wins, and both know whose it is."""
    store = ArtifactStore(str(tmp_path / "store"))
    assert last_recorded(store, RUN) == (0, None)
    jobs = [Job(launcher="torchrun", id={"pid": n}, name=f"n{n}", log="", started="") for n in range(3)]
    assert record(store, RUN, 1, jobs[0])
    assert not record(store, RUN, 1, jobs[1])
    assert last_recorded(store, RUN) == (1, jobs[0])
    assert record(store, RUN, 2, jobs[2])
    assert last_recorded(store, RUN) == (2, jobs[2])
    store.storage.put(f"{RUN.address}/jobs/000003.json", b"{")
    with pytest.raises(IntegrityError, match=r"000003.json is no record of a job"):
        last_recorded(store, RUN)


def test_a_preempted_job_ends_with_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After torchrun's traceback, which is not about an error; the word is no exit code of a rank."""
    assert "before it had begun: nothing was lost" in last_word(tmp_path)
    write_code(tmp_path / "0", 75)
    assert "machine with rank 0" in last_word(tmp_path)
    monkeypatch.setenv(EXIT_CODES, str(tmp_path))
    leave_word("SIGTERM: saved step 130")
    said = last_word(tmp_path)
    assert said.startswith("preempted: SIGTERM: saved step 130.\n") and "goes on from there" in said
    assert rank_codes(tmp_path) == [75]
    assert last_word(tmp_path, FAILED) == "failed: no rank said why: one was killed, or its traceback is above"
    leave_failure("batch: 7 does not fit")
    leave_failure("rank 0 failed: batch: 7 does not fit")
    assert last_word(tmp_path, FAILED) == "failed: batch: 7 does not fit"
    assert last_word(tmp_path, FAILED, killed=True).startswith("interrupted a second time")
    monkeypatch.setenv(EXIT_CODES, str(tmp_path / "gone"))
    leave_failure("what cannot be written keeps no rank from ending"), leave_code(FAILED)


def test_last_words_leave_out_torchruns_traceback() -> None:
    """What the trainer said, and which rank ended how."""
    log = [
        "rank 0 ERROR batch: 7 does not fit",
        "E1127 api.py:1002] failed (exitcode: -9) local_rank: 0 (pid: 15344)",
        "Traceback (most recent call last):",
        '  File "run.py", line 1032, in <module>',
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
        "  host      : localhost",
        "  rank      : 0 (local_rank: 0)",
        "  exitcode  : -9 (pid: 15344)  (SIGKILL)",
    ]
    assert last_words(log) == [log[0], *log[5:]]
    assert last_words(log[:1]) == log[:1]
