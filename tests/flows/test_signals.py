"""How a command that is unwound by a signal ends, whoever reads what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

ENDED = """
import os, signal, sys
from flows.command.signals import resumable
signal.signal(signal.SIGTERM, signal.SIG_DFL), signal.signal(signal.SIGHUP, signal.SIG_DFL)
with resumable("olmo run", ["run", "x"], "all is kept"):
    sys.stdout.write("begun, and not flushed yet")
    os.kill(os.getpid(), int(sys.argv[1]))
    signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_dies_of_the_signal_also_where_nobody_reads_any_more(number: signal.Signals) -> None:
    """Standard output is a pipe without a reader (`olmo run ... | head`): the signal is told, and its exit code stays."""
    read, write = os.pipe()
    os.close(read)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", ENDED, str(int(number))]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    os.close(write)
    assert ended.returncode == -number, ended.stderr
    assert ended.stderr == f"olmo run: ended by {number.name}: all is kept. It goes on with: olmo run x\n"
