"""The server of an `olmo run` for which none is up: what it shows and keeps, and that it never outlives the run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from flows.command import services
from flows.command.project import Project
from flows.command.temporary_server import held_port, temporary_server
from olmo_core import processes
from olmo_core.artifacts.store import ArtifactStore
from tests.flows.conftest import ROOT, Place, wait_until
from tests.small_corpus import passages, record, write_jsonl

pytestmark = [pytest.mark.timeout(3600)]
WHOSE = "OF_THE_RUN"
"""Variable by which a run and all that it has started are found."""
PATIENCE = 600
DEAF = """
import signal, sys, time
from flows.command import prefect_server
prefect_server.TIDYING = 0.1
signal.signal(signal.SIGTERM, signal.SIG_IGN if sys.argv[1] == "deaf" else signal.SIG_DFL)
prefect_server.end_at_eof(0)
print("ready", flush=True)
time.sleep(600)
"""


@dataclass(kw_only=True)
class Started:
    """An `olmo run build-dolma` under way."""

    process: subprocess.Popen[str]
    mark: str
    """Value of WHOSE; of no other run, as other tests may go on beside these."""
    log: Path
    """What it says on stderr."""

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def server(self) -> bool:
        """Whether its server's process is there."""
        for one in self.left():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if b"flows.command.prefect_server" in Path(f"/proc/{one.pid}/cmdline").read_bytes():
                    return True
        return False

    def left(self) -> list[processes.ProcessRecord]:
        """All processes of the run."""
        return processes.carrying(**{WHOSE: self.mark})

    def all_gone(self) -> bool:
        return not processes.wait(self.left(), PATIENCE)


def as_from_a_terminal() -> None:
    """Ignore no signal, though the tests may, as `nohup` and a shell's background make them."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def olmo_run(place: Place, tmp_path: Path) -> Iterator[Callable[[str], Started]]:
    """Starts runs of one project by name, each with a store of its own, all with the same small recipe."""
    write_jsonl(tmp_path / "web" / "a.jsonl", [record(f"d{i}", text) for i, text in enumerate(passages()[:60])])
    read = {"kind": "dolma-jsonl", "name": "web", "paths": [f"{tmp_path}/web/*"]}
    recipe = {"name": "small", "shard_bytes": 100000, "content": {"kind": "lexicon"}, "sources": [{"read": read}]}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    begun: list[Started] = []

    def start(name: str) -> Started:
        words = ["run", "build-dolma", "--recipe", f"{tmp_path}/small.yaml", "--store", f"{tmp_path}/{name}"]
        log = tmp_path / f"{name}.log"
        environment = place.environment() | {WHOSE: f"{tmp_path}/{name}"}
        del environment["PREFECT_HOME"]  # so that it is as for a user who has set nothing
        with log.open("w", encoding="utf-8") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "flows.command.main", *words, "--workers", "1", "--json"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                # A terminal's: what it sends to all of them reaches the server only if that is not one of them.
                process_group=0,
                preexec_fn=as_from_a_terminal,
            )
        begun.append(Started(process=process, mark=environment[WHOSE], log=log))
        return begun[-1]

    yield start
    for one in begun:
        one.process.kill()
        one.process.communicate()
        processes.end(one.left(), grace=1)


def amid(*runs: tuple[Started, Path]) -> None:
    """Make runs stand still, each as soon as it is amid its stages: something is published in its store, and much is not."""
    waiting = list(runs)

    def all_stand() -> bool:
        for run, store in list(waiting):
            assert run.process.poll() is None, run.said()
            if any(ArtifactStore(str(store)).finished("documents")):
                run.process.send_signal(signal.SIGSTOP)
                waiting.remove((run, store))
        return not waiting

    wait_until(all_stand, seconds=PATIENCE, what="a first stage of each")


@pytest.mark.slow
def test_no_server_outlives_its_run(olmo_run: Callable[[str], Started], place: Place, tmp_path: Path) -> None:
    """Two runs at once, amid their stages: one ends by SIGTERM, then the other is killed. What is left goes on, to its end.

    The dashboard that a run names is there; the history tells how it ended, with the last lines of its log.
    """
    first, second = olmo_run("first"), olmo_run("second")
    amid((first, tmp_path / "first"), (second, tmp_path / "second"))
    address = re.search(r"View at (http://127\.0\.0\.1:\d+/v2/runs/flow-run/([0-9a-f-]{36}))", first.said())
    assert address, first.said()
    asked = urllib.request.Request(address.group(1), headers={"Accept": "text/html"})
    with urllib.request.urlopen(asked, timeout=300) as page:
        assert "html" in page.headers["Content-Type"] and b"<title>Prefect" in page.read()
    first.process.send_signal(signal.SIGTERM)
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(timeout=PATIENCE) == -signal.SIGTERM, first.said()
    assert first.all_gone(), "SIGTERM"
    again = f"It goes on with: olmo run build-dolma --recipe {tmp_path}/small.yaml --store {tmp_path}/first"
    assert f"olmo run: ended by SIGTERM: finished stages and shards are kept. {again}" in first.said()
    assert "Traceback" not in first.said().split("ended by SIGTERM")[1]

    assert second.server(), second.said()
    second.process.kill()
    assert second.all_gone(), "SIGKILL"
    assert not list(ArtifactStore(str(tmp_path / "second")).finished("tokens")), "killed too late"

    third = olmo_run("first")
    out, _ = third.process.communicate(timeout=PATIENCE)
    assert third.process.returncode == 0, third.said()
    assert json.loads(out)["store"] == f"{tmp_path}/first" and third.all_gone()
    with sqlite3.connect(place.home / "prefect-run" / "prefect.db") as database:
        runs = database.execute("select state_type, id from flow_run").fetchall()
        assert sorted(state for state, _ in runs) == ["COMPLETED", "CRASHED", "RUNNING"]
        completed = dict(runs)["COMPLETED"]
        ask = "select distinct state_type from task_run where flow_run_id = ?"
        assert database.execute(ask, (completed,)).fetchall() == [("COMPLETED",)]
        ask = "select count(*) from log where flow_run_id = ? and message like 'Finished in state Completed%'"
        assert database.execute(ask, (completed,)).fetchone()[0] > 0
    assert (place.home / "prefect-run").stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGHUP, -signal.SIGHUP)])
def test_a_run_that_ends_while_its_server_starts(
    olmo_run: Callable[[str], Started], sent: signal.Signals, code: int
) -> None:
    """By what a terminal sends to all processes of its foreground: Ctrl-C, and that it is closed."""
    run = olmo_run("early")
    wait_until(run.server, seconds=PATIENCE, what="the server's process")
    os.killpg(run.process.pid, sent)
    assert run.process.wait(timeout=PATIENCE) == code, run.said()
    assert run.all_gone() and "It goes on with: olmo run build-dolma" in run.said()


@pytest.mark.parametrize(("how", "code"), [("ready to go", -signal.SIGTERM), ("deaf", 1)])
def test_the_server_ends_with_its_pipe(how: str, code: int) -> None:
    """Whoever held the other end need not say anything; a server that hangs does not stay for that."""
    command = [sys.executable, "-c", DEAF, how]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "ready\n" and process.stdin
        assert process.poll() is None
        process.stdin.close()
        assert process.wait(timeout=PATIENCE) == code


@pytest.mark.parametrize(
    ("python", "patience", "said"),
    [
        # Its record is made before it ends.
        ("sleep 2; echo no module named prefect >&2; exit 1", PATIENCE, r"ended while starting; its log .*\n +no module named prefect"),
        ("echo so far >&2; exec sleep 600", 8, r"was not ready after 8 s; with `olmo up` .*\n +so far"),
    ],
)  # fmt: skip
def test_a_server_that_does_not_start(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, patience: float, said: str
) -> None:
    """An interpreter that fails stands for a broken installation, one that sleeps for a machine that hangs."""
    broken = tmp_path / "python"
    broken.write_text(f"#!/bin/sh\n{python}\n", encoding="ascii")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    monkeypatch.setenv("PREFECT_HOME", str(place.home))
    monkeypatch.setenv(WHOSE, str(broken))
    with (
        pytest.raises(services.ServiceError, match=said),
        temporary_server(Project(directory=ROOT, home=place.home), patience=patience),
    ):
        pytest.fail("it started")
    assert not processes.carrying(**{WHOSE: str(broken)})


def test_the_port_is_for_the_server_alone() -> None:
    """The system gives it to nobody who asks for a free one; who says SO_REUSEADDR, as servers do, may listen."""
    with held_port() as port, held_port() as other, socket.socket() as server, socket.socket() as stranger:
        assert port != other
        with pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port))
        server.listen()
