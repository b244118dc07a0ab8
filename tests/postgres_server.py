"""A real PostgreSQL server for a test: a cluster of its own in a folder of its own, on loopback, with a password."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from tests import debian
from tests.ports import free_port

PASSWORD = "a password/of tests @only"
"""With all that an address must quote."""


def missing() -> str:
    """Why it cannot be started, or nothing; installs Debian's package where we may."""
    if program("initdb"):
        return ""
    said = debian.missing(("initdb",), ("postgresql",), "PostgreSQL")
    return "" if program("initdb") else said


def program(name: str) -> str | None:
    """Where a program of PostgreSQL lies: Debian keeps most of them out of PATH."""
    folders = [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return shutil.which(name, path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))


class PostgresServer:
    """Started by `with`; gone with all it holds afterwards."""

    def __init__(self) -> None:
        self.port = free_port()
        # PostgreSQL does not run as root, and pytest's folders are closed to others.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="olmo-postgres-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What deployments/compose/server.sh is told."""
        return {
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_USER": "prefect",
            "POSTGRES_DB": "prefect",
            "POSTGRES_PASSWORD": PASSWORD,
        }

    def __enter__(self) -> PostgresServer:
        (self._folder / "word").write_text(PASSWORD, encoding="utf-8")
        if self._user:
            own = pwd.getpwnam(self._user)
            for path in (self._folder, self._folder / "word"):
                os.chown(path, own.pw_uid, own.pw_gid)
        words = ["--username=prefect", f"--pwfile={self._folder}/word", "--auth=scram-sha-256", "--no-sync", "-D"]
        self._run("initdb", *words, f"{self._folder}/data")
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        words = [f"-c{name}={value}" for name, value in options.items()]
        with open(self._folder / "log", "wb") as log:
            self._process = subprocess.Popen(
                # setpriv: the kernel ends it when the test process is gone, however it went.
                [
                    "setpriv",
                    *self._as_user(),
                    "--pdeathsig",
                    "TERM",
                    str(program("postgres")),
                    "-D",
                    f"{self._folder}/data",
                    *words,
                ],
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 300
        while self._client("postgres", "select 1"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not come up: {(self._folder / 'log').read_text()[-1000:]}")
            time.sleep(0.1)
        assert self._client("postgres", "create database prefect") == 0
        return self

    def __exit__(self, *what: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(300)
        shutil.rmtree(self._folder)

    def asked(self, question: str) -> str:
        """What the database answers, as psql prints it bare."""
        done = subprocess.run(
            self._psql("prefect", question), env=self._known(), capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def _client(self, database: str, question: str) -> int:
        done = subprocess.run(self._psql(database, question), env=self._known(), capture_output=True, check=False)
        return done.returncode

    def _psql(self, database: str, question: str) -> list[str]:
        return [
            str(program("psql")),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "prefect",
            "-d",
            database,
            "-Atc",
            question,
        ]

    def _known(self) -> dict[str, str]:
        return {**os.environ, "PGPASSWORD": PASSWORD}

    def _as_user(self) -> list[str]:
        return [f"--reuid={self._user}", f"--regid={self._user}", "--clear-groups"] if self._user else []

    def _run(self, name: str, *words: str) -> None:
        command = ["setpriv", *self._as_user(), str(program(name)), *words]
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            raise RuntimeError(f"{name} gave {done.returncode}: {done.stderr[-1000:]}")
