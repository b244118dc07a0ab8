"""Why the server's garbage is collected apart, shown with SQLite itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.flows.conftest import ROOT

SCRIPT = """
import gc, sqlite3, sys, threading, time
from flows.command.prefect_server import collect_apart

def connect():
    return sqlite3.connect(sys.argv[1], timeout=float(sys.argv[3]), check_same_thread=False, isolation_level=None)

holder, waiter = connect(), connect()
holder.execute("create table t (x)")
holder.execute("begin immediate")

class Cycle:
    pass

def leave():  # as a failed statement does: its traceback holds the frame, which holds the cursor
    lost = Cycle()
    lost.cursor = waiter.cursor()
    lost.cursor.execute("select 1 union select 2")
    lost.itself = lost

if sys.argv[2] == "apart":
    collect_apart(0.01)
gc.collect()
leave()
told = []

def wait():
    try:
        waiter.execute("begin immediate")
        told.append("got it")
    except sqlite3.OperationalError as error:
        told.append(str(error))

thread = threading.Thread(target=wait)
thread.start()
while not any("wait" in frame.f_code.co_name for frame in [sys._current_frames()[thread.ident]]):
    pass
time.sleep(1.5)  # no way to ask: it is in SQLite by now, and has its mutex
kept = [[] for _ in range(200_000)]  # the loop's work: enough for the collector to come by, where it does
holder.execute("commit")
thread.join()
print(told[0])
"""


@pytest.mark.parametrize(("how", "patience", "said"), [("apart", 100, "got it"), ("as ever", 5, "database is locked")])
def test_a_loop_that_collects_waits_for_whom_it_keeps_waiting(
    tmp_path: object, how: str, patience: int, said: str
) -> None:
    """With Python's own way the writer's loop stands still until the other one gives up; apart, it goes on and commits."""
    words = [sys.executable, "-c", SCRIPT, f"{tmp_path}/t.db", how, str(patience)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert (done.stdout.strip(), done.returncode) == (said, 0), done.stderr
