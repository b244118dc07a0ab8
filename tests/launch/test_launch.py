"""`olmo_core.train.launch`: exit codes through a real torchrun, SIGTERM to the ranks, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from olmo_core import processes
from olmo_core.train import launch
from olmo_core.train.launch import DONE, FAILED, GO, PREEMPTED, job_code

RANK = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from olmo_core.train.launch import EXIT_CODES, write_code
from pathlib import Path
rank = int(os.environ["RANK"])
def end(code):
    write_code(Path(os.environ[EXIT_CODES]) / str(rank), code)
    os._exit(code)
signal.signal(signal.SIGTERM, lambda *_: end(75))
Path({folder!r}, f"pid-{{rank}}.tmp").write_text(str(os.getpid()))
Path(os.path.join({folder!r}, f"pid-{{rank}}.tmp")).rename(Path({folder!r}, f"pid-{{rank}}"))
{body}
"""
ROOT = str(Path(__file__).resolve().parents[2])
PARENT = """
import sys
sys.path.insert(0, {root!r})
from olmo_core.train import launch
launch.torchrun = lambda a: [sys.executable, "-m", "torch.distributed.run", "--standalone",
    f"--nproc-per-node={{a.processes}}", "--signals-to-handle=SIGINT", {script!r}]
sys.exit(launch.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("torchrun_code", "codes", "ranks", "job"),
    [
        (0, [0, 0], 2, DONE),
        (1, [75, 75], 2, PREEMPTED),
        (1, [75, 0], 2, PREEMPTED),
        (1, [75, 1], 2, FAILED),
        (1, [75], 2, FAILED),  # the other one was killed
        (1, [], 1, FAILED),
        (1, [0], 1, FAILED),
        (-9, [75, 75], 2, PREEMPTED),
    ],
)
def test_code_of_a_job(torchrun_code: int, codes: Sequence[int], ranks: int, job: int) -> None:
    """One rank that failed or left nothing counts more than those that saved."""
    assert job_code(torchrun_code, codes, ranks) == job


def test_a_job_that_is_told_to_end_before_it_has_begun_is_to_be_started_again() -> None:
    """No rank was there yet; one that was and died is a failure all the same."""
    assert job_code(1, [], 2, told=True) == PREEMPTED
    assert job_code(1, [75], 2, told=True) == FAILED


@pytest.fixture
def started(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a job of two ranks that run the given Python lines; real torchrun, no trainer."""

    def start(body: str, *options: str) -> subprocess.Popen[bytes]:
        script, parent = tmp_path / "rank.py", tmp_path / "parent.py"
        script.write_text(RANK.format(root=ROOT, folder=str(tmp_path), body=body))
        parent.write_text(PARENT.format(root=ROOT, script=str(script)))
        command = [
            sys.executable,
            str(parent),
            "--processes=2",
            f"--exit-file={tmp_path / 'exit'}",
            *options,
            "RUN.json",
        ]
        return subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)

    return start


def ranks(folder: Path) -> list[int]:
    """Numbers of the two ranks' processes, once they run."""
    deadline = time.monotonic() + 400
    files = [folder / f"pid-{rank}" for rank in range(2)]
    while not all(file.exists() for file in files):
        assert time.monotonic() < deadline, "the ranks did not start"
        time.sleep(0.05)
    return [int(file.read_text()) for file in files]


def code_in(folder: Path) -> int:
    return int((folder / "exit").read_text())


@pytest.mark.slow
def test_done_and_preempted_and_failed(started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """The code reaches the process's end and the file; SIGTERM reaches every rank."""
    assert started("end(0)").wait(400) == DONE == code_in(tmp_path)
    for file in tmp_path.glob("pid-*"):
        file.unlink()
    process = started("time.sleep(600)")
    ranks(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(400) == PREEMPTED == code_in(tmp_path)
    assert started("end(75 if rank else 3)").wait(400) == FAILED == code_in(tmp_path)


@pytest.mark.slow
def test_a_killed_rank_is_a_failure_although_the_other_one_saves(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Torchrun tells the other rank to end, which does so with 75."""
    process = started("time.sleep(600)")
    os.kill(ranks(tmp_path)[1], signal.SIGKILL)
    assert process.wait(400) == FAILED


@pytest.mark.slow
def test_ranks_do_not_outlive_torchrun(started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """Torchrun is killed: its ranks are told to end, and collected."""
    process = started("time.sleep(600)")
    both = ranks(tmp_path)
    parent = int(Path(f"/proc/{both[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    assert process.wait(400) == PREEMPTED
    assert [pid for pid in both if processes.started(pid)] == []


def test_nothing_starts_before_go(started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """Who started it died before it wrote down that it did: the pipe is closed, the job ends."""
    process = started("end(0)", "--await-go")
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(400) == FAILED
    assert not (tmp_path / "exit").exists() and not list(tmp_path.glob("pid-*"))
    assert GO.endswith("\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take another name for the machine")
def test_a_machine_whose_name_leads_nowhere_trains_all_the_same(tmp_path: Path) -> None:
    """Torchrun looked for itself by that name, minutes long."""
    arguments = launch._parser().parse_args([str(tmp_path / "none.json")])
    command = [*launch.torchrun(arguments)[:-3], str(tmp_path / "rank.py")]
    (tmp_path / "rank.py").write_text("print('trains', flush=True)")
    unnamed = ["unshare", "--uts", "sh", "-c", 'hostname leads-nowhere; exec "$@"', "sh"]
    done = subprocess.run([*unnamed, *command], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.strip() == "trains"
