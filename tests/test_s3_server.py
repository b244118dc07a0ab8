"""The server of the S3 tests: several at once, nothing left behind, and a clear reason where it cannot be had."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import s3_server
from tests.endurance.__main__ import main as endurance
from tests.s3_server import S3Server

ROOT = Path(__file__).resolve().parents[1]
START_AND_DIE = """
import os, pathlib, signal, sys
from tests.s3_server import S3Server
server = S3Server()
server.start(pathlib.Path(sys.argv[1]))
print(*(daemon.pid for daemon in server._daemons.values()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.s3
def test_a_second_server_runs_beside_the_first_and_dies_with_its_process(s3: S3Server, tmp_path: Path) -> None:
    command = [sys.executable, "-c", START_AND_DIE, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=800, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    daemons = [int(word) for word in done.stdout.split()]
    assert len(daemons) == 3
    deadline = time.monotonic() + 120
    while any(runs(daemon) for daemon in daemons):
        assert time.monotonic() < deadline, "daemons are left behind"
        time.sleep(0.05)
    assert "Buckets" in s3.client().list_buckets(), "the first is still there"


def runs(process: int) -> bool:
    """Say whether a process is there, and more than an entry that nobody has asked about yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_without_the_packages_the_reason_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert s3_server.missing() == "no radosgw: apt-get install radosgw ceph-mon ceph-osd"
    assert endurance([]) == 1
    assert "no radosgw: apt-get install" in capsys.readouterr().out
