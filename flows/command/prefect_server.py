"""`python -m flows.command.prefect_server ...` is `prefect server start ...` that does not stop for a minute under load.

On SQLite Prefect's server has a connection for each request at work, each with a thread of its own. A statement that has
failed leaves its cursor in a cycle of objects, for the garbage collector to find. Python collects wherever something is
allocated, mostly in the thread of the event loop, and to let go of a cursor is to wait for its connection
(`sqlite3_reset` takes its mutex). Is that connection just waiting for the database's lock, then the loop waits for it,
and who has the lock waits for the loop: nothing moves until SQLite gives up, after 60 s ("database is locked"), and soon the
next time. So here garbage is collected by a thread that nobody waits for.

With UNTIL_EOF as its first word it ends when its standard input does. Who holds the other end of that pipe need not end it:
when he is gone, even by SIGKILL, so is the server, from its first moment on.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time

UNTIL_EOF = "--until-eof"
"""Option of this module, not of Prefect's server."""
TIDYING = 5.0
"""Seconds that the server has to tidy up after the end of its standard input."""
PAUSE = 1.0
"""Seconds between two collections of young objects."""
ALL = 20
"""Collections of young objects to one of all."""


def collect_apart(pause: float = PAUSE) -> threading.Thread:
    """Collect garbage in a thread of its own from now on, and nowhere else."""
    gc.disable()
    thread = threading.Thread(target=_collect, args=(pause,), name="garbage", daemon=True)
    thread.start()
    return thread


def _collect(pause: float) -> None:
    number = 0
    while True:
        time.sleep(pause)
        number += 1
        gc.collect(1 if number % ALL else 2)
        if number == ALL:
            gc.freeze()  # what was imported stays anyway, and takes most of the time


def end_at_eof(descriptor: int) -> None:
    """End this process, as SIGTERM does and at last without asking, when nobody has the other end of a pipe any more."""
    threading.Thread(target=_end_at_eof, args=(descriptor,), name="end", daemon=True).start()


def _end_at_eof(descriptor: int) -> None:
    while os.read(descriptor, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(TIDYING)
    os._exit(1)


def main() -> None:
    """Start the server with the words of the command line; does not return."""
    words = sys.argv[1:]
    if words[:1] == [UNTIL_EOF]:
        del words[0]
        end_at_eof(sys.stdin.fileno())
    collect_apart()
    from prefect.cli import app

    sys.argv = ["prefect", "server", "start", *words]
    app()


if __name__ == "__main__":
    main()
