"""The worker processes when a run is interrupted: nobody waits for a job whose process is gone."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from olmo_core.errors import WorkerError
from olmo_core.workers import Workers


def hang(beginning: str) -> None:
    """Say that it has begun, and wait for a signal."""
    Path(beginning).touch()
    signal.pause()


@pytest.mark.parametrize("signalled", [False, True], ids=["closed", "signalled and closed"])
def test_an_interruption_ends_all_who_wait(tmp_path: Path, signalled: bool) -> None:
    """`timeout` and terminals signal the whole group, so workers may be gone when the owner closes the pool."""
    workers = Workers(2)
    errors: list[BaseException] = []

    def stage(number: int) -> None:
        try:
            list(workers.map(hang, [str(tmp_path / f"{number}-{i}") for i in range(6)], str))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=stage, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    while len(list(tmp_path.iterdir())) < 2:
        assert threads[0].is_alive()
    assert workers._pool is not None
    for process in list(workers._pool._processes.values()) if signalled else []:
        os.kill(process.pid or 0, signal.SIGTERM)
    workers.close(now=True)
    for thread in threads:
        thread.join(300)
    assert not any(thread.is_alive() for thread in threads)
    assert len(errors) == 3 and all(isinstance(error, WorkerError) and "interrupted" in str(error) for error in errors)
