"""Recognising and ending processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from olmo_core import processes
from olmo_core.processes import ProcessRecord

IGNORES_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
)


def child(code: str, **variables: str) -> subprocess.Popen[str]:
    """A Python process that has run up to its first print."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=os.environ | variables
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def collect(pid: int) -> None:
    """Wait for a child's end; one over so soon that its Popen object has waited for it already is no child any more."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


@pytest.mark.parametrize("proc", ["/proc", "/nonexistent"])
def test_start_time_is_stable_and_tells_processes_apart(proc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By /proc and, where there is none, by ps."""
    monkeypatch.setattr(processes, "_PROC", Path(proc))
    process = child("import time; print('ready', flush=True); time.sleep(600)")
    try:
        entry = processes.record(process.pid)
        assert entry is not None
        assert entry == processes.record(process.pid)
        assert processes.is_running(entry)
        assert processes.started(os.getppid()) is not None
        assert not processes.is_running(ProcessRecord(pid=process.pid, started="another time"))
    finally:
        process.kill()
    # Killed but not yet collected by us, its parent: a zombie is not running.
    assert processes.wait([entry], 120) == []
    process.wait()
    assert processes.started(process.pid) is None


def test_end_kills_what_does_not_listen_and_says_so() -> None:
    """SIGTERM twice, then SIGKILL."""
    deaf = child(IGNORES_SIGTERM)
    willing = child("import time; print('ready', flush=True); time.sleep(600)")
    entries = [processes.record(each.pid) for each in (deaf, willing)]
    outcome = processes.end([each for each in entries if each is not None], grace=4)
    assert list(outcome.values()) == ["killed", "ended"]
    assert deaf.wait() == -9
    assert willing.wait() == -15


def test_processes_are_found_by_their_environment() -> None:
    """Also children of children, whose parent may be gone."""
    code = "import subprocess, time; subprocess.Popen(['sleep', '600']); print('ready', flush=True); time.sleep(600)"
    process = child(code, OLMO_TEST_MARK="one", OLMO_TEST_OTHER="x")
    try:
        found = processes.carrying(OLMO_TEST_MARK="one", OLMO_TEST_OTHER=None)
        assert len(found) == 2
        assert process.pid in {entry.pid for entry in found}
        assert processes.carrying(OLMO_TEST_MARK="two") == []
        assert "one" in processes.values_of("OLMO_TEST_MARK")
    finally:
        processes.end(processes.carrying(OLMO_TEST_MARK="one"), grace=1)
        process.wait()


def test_a_process_that_becomes_another_program_is_found_all_the_while() -> None:
    """In the middle of an exec the kernel shows no environment at all."""
    command = "for _ in 1 2 3; do :; done; exec /bin/sh -c 'exec /bin/sh -c \"exec sleep 600\"'"
    environment = {"PATH": os.environ["PATH"], "OLMO_OF_THIS_TEST": "1"}
    for _ in range(40):
        process = subprocess.Popen(["/bin/sh", "-c", command], env=environment)
        found = {"OLMO_OF_THIS_TEST" in processes.environment_of(process.pid) for _ in range(300)}
        process.kill()
        process.wait()
        assert found == {True}


def test_detached_process_listens_to_interrupts(tmp_path: Path) -> None:
    """Also when `olmo up` runs in the background of a script, where the shell has it ignore SIGINT."""
    log = tmp_path / "new" / "log"
    code = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        pid = processes.start_detached(
            [sys.executable, "-c", code], log=log, directory=tmp_path, environment=os.environ
        )
        collect(pid)
    finally:
        signal.signal(signal.SIGINT, before)
    assert log.read_text(encoding="ascii") == "True\n"


AMID_A_FORK = """
import os, signal, sys
from pathlib import Path
from olmo_core import processes
from tests.test_processes import collect

signal.signal(signal.SIGTERM, signal.default_int_handler)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))
pid = processes.start_detached(["true"], log=Path(sys.argv[2]), directory=Path("/"), environment={})
collect(pid)
assert signal.getsignal(signal.SIGINT) is getattr(signal, sys.argv[1])
"""


@pytest.mark.parametrize("before", ["SIG_IGN", "default_int_handler"])
def test_no_signal_is_lost_amid_a_start(tmp_path: Path, before: str) -> None:
    """One that came while a server was started was raised in a hook around the fork, where Python drops it: the command stood still."""
    words = [sys.executable, "-c", AMID_A_FORK, before, str(tmp_path / "log")]
    root = Path(__file__).parents[1]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, cwd=root)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_large_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restart appends to a small log and renames a large one."""
    log = tmp_path / "server.log"
    monkeypatch.setattr(processes, "LOG_LIMIT", 15)
    for _ in range(3):
        pid = processes.start_detached(["echo", "123456789"], log=log, directory=tmp_path, environment={})
        collect(pid)
    assert log.read_text(encoding="ascii") == "123456789\n"
    assert (tmp_path / "server.log.1").read_text(encoding="ascii") == "123456789\n" * 2
