"""`olmo_core.train.launch`: exit codes through a real torchrun, SIGTERM to the ranks, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from olmo_core import processes
from olmo_core.train import launch
from olmo_core.train.launch import DONE, EXIT_CODES, FAILED, GO, PREEMPTED, TOLD, job_code
from olmo_core.train.preemption import Preemption
from tests.flows.conftest import wait_until

MODULE = """
import os, sys, time
from pathlib import Path
from olmo_core.train.preemption import Preemption
asked = Preemption().listen()
rank = int(os.environ["RANK"])
def wait():
    while asked.signal is None:
        time.sleep(0.01)
    Path({folder!r}, f"signal-{{rank}}").write_text(asked.signal)
    sys.exit(75)
Path({folder!r}, f"pid-{{rank}}.tmp").write_text(str(os.getpid()))
Path({folder!r}, f"pid-{{rank}}.tmp").rename(Path({folder!r}, f"pid-{{rank}}"))
{body}
"""
"""What ranks run in place of the trainer."""
ROOT = str(Path(__file__).resolve().parents[2])
PARENT = """
import os, signal, sys
sys.path.insert(0, {root!r})
os.environ["PYTHONPATH"] = {path!r}
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
from olmo_core.train import launch
launch.TRAINER = "small_trainer"
sys.exit(launch.main([*sys.argv[1:], "--module=small_trainer"]))
"""
DEAF = """
import os, signal, time
if "RANK" in os.environ:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    end = time.monotonic() + 300
    while not os.path.exists(os.path.join(os.environ["OLMO_EXIT_CODES"], "told")) and time.monotonic() < end:
        open({mark!r}, "a").close()
        time.sleep(0.01)
"""
"""`sitecustomize`: an interpreter that is slow to start, and hears nothing."""


@pytest.mark.parametrize(
    ("torchrun_code", "codes", "ranks", "job"),
    [
        (0, [0, 0], 2, DONE),
        (1, [75, 75], 2, PREEMPTED),
        (1, [75, 0], 2, PREEMPTED),
        (1, [75, 1], 2, FAILED),
        (1, [75], 2, FAILED),  # the other one was killed
        (1, [], 1, FAILED),
        (1, [0], 1, DONE),  # a signal came when all was done
        (1, [0, 0], 2, DONE),
        (1, [0], 2, FAILED),
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
    """Starts a job of two ranks that run the given Python lines: real torchrun, real ranks, no trainer."""

    def start(body: str, *options: str) -> subprocess.Popen[bytes]:
        parent = tmp_path / "parent.py"
        (tmp_path / "small_trainer.py").write_text(MODULE.format(folder=str(tmp_path), body=body))
        parent.write_text(PARENT.format(root=ROOT, path=os.pathsep.join([str(tmp_path), ROOT])))
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
    files = [folder / f"pid-{rank}" for rank in range(2)]
    wait_until(lambda: all(file.exists() for file in files), seconds=400, what="the ranks' start", pause=0.01)
    return [int(file.read_text()) for file in files]


def until_it_ends(process: subprocess.Popen[bytes], tell: Callable[[], None]) -> None:
    """Tell a process again and again until it has ended."""

    def has_ended() -> bool:
        if process.poll() is None:
            tell()
        return process.returncode is not None

    wait_until(has_ended, seconds=400, what="the end of a process that was told", pause=0.001)


def code_in(folder: Path) -> int:
    return int((folder / "exit").read_text())


@pytest.mark.slow
def test_done_and_preempted_and_failed(started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """The code reaches the process's end and the file; SIGTERM reaches every rank."""
    assert started("sys.exit(0)").wait(400) == DONE == code_in(tmp_path)
    for file in tmp_path.glob("pid-*"):
        file.unlink()
    process = started("wait()")
    ranks(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(400) == PREEMPTED == code_in(tmp_path)
    assert started("sys.exit(75 if rank else 3)").wait(400) == FAILED == code_in(tmp_path)


@pytest.mark.slow
def test_a_killed_rank_is_a_failure_although_the_other_one_saves(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Torchrun tells the other rank to end, which does so with 75."""
    process = started("wait()")
    os.kill(ranks(tmp_path)[1], signal.SIGKILL)
    assert process.wait(400) == FAILED


@pytest.mark.slow
def test_ranks_do_not_outlive_torchrun(started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """Torchrun is killed: its ranks are told to end, and collected."""
    process = started("wait()")
    both = ranks(tmp_path)
    parent = int(Path(f"/proc/{both[0]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)
    assert process.wait(400) == PREEMPTED
    assert [pid for pid in both if processes.started(pid)] == []


@pytest.mark.slow
def test_a_rank_that_is_only_starting_hears_of_it_later(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Python takes a while to have a handler in place; until then ranks ignore SIGTERM, as their torchrun does."""
    mark = tmp_path / "a rank starts"
    (tmp_path / "sitecustomize.py").write_text(DEAF.format(mark=str(mark)))
    process = started("wait()")
    wait_until(lambda: mark.exists() or process.poll() is not None, seconds=400, what="a rank that starts", pause=0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(400) == PREEMPTED == code_in(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ranks_that_are_told_again_and_again_leave_their_code(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path, number: int
) -> None:
    """The first one to end has torchrun tell the others, which may be about to write their codes."""
    process = started("wait()")
    left = set(ranks(tmp_path))

    def tell() -> None:
        for pid in list(left):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                left.remove(pid)

    until_it_ends(process, tell)
    assert process.wait(400) == PREEMPTED == code_in(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_launcher_that_is_told_again_and_again_has_its_own_code(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path, number: int
) -> None:
    """Python gives signals their defaults back before it ends, and a handler may be interrupted by the next signal."""
    process = started("wait()")
    ranks(tmp_path)
    until_it_ends(process, lambda: process.send_signal(number))
    assert process.wait(400) == PREEMPTED == code_in(tmp_path)


@pytest.mark.slow
def test_ranks_that_have_begun_and_are_killed_are_a_failure_also_where_the_job_was_told(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """They leave no code, as those that were never there: what they did since the last checkpoint is lost."""
    process = started("time.sleep(600)")
    both = ranks(tmp_path)
    process.send_signal(signal.SIGTERM)
    folder = Path(processes.environment_of(both[0])[EXIT_CODES])
    wait_until((folder / TOLD).exists, seconds=400, what="word of it", pause=0.01)
    for pid in both:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert process.wait(400) == FAILED == code_in(tmp_path)


@pytest.mark.slow
def test_ctrl_c_saves_and_another_one_ends_at_once(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """A terminal sends it to the whole process group. Ranks that had it from there and from torchrun too did not save."""
    process = started("wait()")
    ranks(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(400) == PREEMPTED == code_in(tmp_path)
    assert [file.read_text() for file in tmp_path.glob("signal-*")] == ["SIGINT"] * 2, "what the sender sent"
    for file in tmp_path.glob("pid-*"):
        file.unlink()
    process = started("time.sleep(600)")
    ranks(tmp_path)
    until_it_ends(process, lambda: os.killpg(process.pid, signal.SIGINT))
    assert process.wait(400) == FAILED == code_in(tmp_path)


@pytest.mark.parametrize("under_torchrun", [False, True])
def test_a_second_sigint_interrupts_unless_it_is_torchruns(
    monkeypatch: pytest.MonkeyPatch, under_torchrun: bool
) -> None:
    """Torchrun answers Ctrl-C with a SIGINT to each rank, which has had its own from the terminal."""
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if under_torchrun:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        Preemption().listen()
        signal.raise_signal(signal.SIGINT)
        asked = Preemption().listen()
        assert asked.signal == "SIGINT", "what came to the first one"
        with contextlib.nullcontext() if under_torchrun else pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_job_that_is_told_before_go_is_to_be_started_again(
    started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    process = started("sys.exit(0)", "--await-go")

    def hears() -> bool:
        return int(status_of(process.pid)["SigBlk"], 16) & 1 << signal.SIGTERM - 1 != 0

    wait_until(hears, seconds=400, what="the launcher's signals", pause=0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(400) == PREEMPTED == code_in(tmp_path)
    assert not list(tmp_path.glob("pid-*"))


def status_of(pid: int) -> dict[str, str]:
    """What Linux says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.slow
def test_the_last_line_of_a_job_that_failed_says_why(tmp_path: Path) -> None:
    """And not torchrun's traceback, which is of itself."""
    command = [sys.executable, "-m", "olmo_core.train.launch", "--processes=2", str(tmp_path / "none.json")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == FAILED
    assert ended.stderr.splitlines()[-1].startswith(f"failed: cannot read the run file {tmp_path}/none.json: ")


def test_nothing_starts_before_go(started: Callable[..., subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """Who started it died before it wrote down that it did: the pipe is closed, the job ends."""
    process = started("sys.exit(0)", "--await-go")
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
