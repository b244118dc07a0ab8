"""Where a project lies, where its running services keep their state, and what that state is.

One project directory (the one with `prefect.yaml`) has one state folder: `.olmo/` in it, or what OLMO_HOME names.
The folder holds the Prefect server's database, the logs and `state.json`: the port and the processes that `olmo up`
started. Several checkouts on one machine therefore never see each other's services. Nothing here imports Prefect:
the Prefect plugin reads the state inside every `prefect` command.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmo_core.errors import OlmoError
from olmo_core.processes import ProcessRecord

HOST = "127.0.0.1"
DEFAULT_PORT = 4200


@dataclass(kw_only=True)
class State:
    """What `state.json` holds."""

    port: int = DEFAULT_PORT
    """Port of the Prefect server, kept after `olmo down` so that the next `olmo up` takes it again."""
    host: str = HOST
    """Address or name on which the server listens, kept like the port; beyond loopback it has a password (password.py)."""
    server: ProcessRecord | None = None
    """The Prefect server, None when none was started or it was ended."""
    workers: dict[str, ProcessRecord] = field(default_factory=dict)
    """The worker of each work pool, by the pool's name."""

    @property
    def api_url(self) -> str:
        """Address of the Prefect API, as seen from this machine."""
        return api_url(self.port, self.host)

    @property
    def ui_url(self) -> str:
        """Address of the dashboard's second version, as seen from this machine; without `/v2` deep links open the first one."""
        return self.api_url.removesuffix("/api") + "/v2"


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project directory and its state folder, both absolute."""

    directory: Path
    """The directory with `prefect.yaml`; flow runs have it as their working directory."""
    home: Path
    """The state folder."""

    @property
    def prefect_home(self) -> Path:
        """PREFECT_HOME of the services: their database and storage; the user's own ~/.prefect is left alone."""
        return self.home / "prefect"

    def log(self, service: str) -> Path:
        """The log file of a service (`server`, `worker-cpu`)."""
        return self.home / f"{service}.log"

    def read_state(self) -> State:
        """The recorded state; where nothing was recorded an empty one, with the port that OLMO_PORT asks for.

        Raises OlmoError when `state.json` is there but is not what `write_state` writes, or OLMO_PORT is no port.
        """
        path = self.home / "state.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            server = raw["server"]
            return State(
                port=int(raw["port"]),
                host=str(raw.get("host", HOST)),
                server=None if server is None else ProcessRecord(**server),
                workers={str(pool): ProcessRecord(**record) for pool, record in raw["workers"].items()},
            )
        except FileNotFoundError:
            return State(port=port_asked_for() or DEFAULT_PORT)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise OlmoError(
                f"{path} cannot be read ({type(error).__name__}: {error}); end this project's prefect processes by "
                "hand, if any are running, and delete the file"
            ) from error

    def write_state(self, state: State) -> None:
        """Replace `state.json` in one step, so that a reader never sees half of it."""
        raw: dict[str, Any] = {
            "port": state.port,
            "host": state.host,
            "server": None if state.server is None else vars(state.server),
            "workers": {pool: vars(record) for pool, record in state.workers.items()},
        }
        self.home.mkdir(parents=True, exist_ok=True)
        temporary = self.home / f"state.json.{os.getpid()}"
        temporary.write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
        temporary.replace(self.home / "state.json")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the project's lock: of two `olmo up` or `olmo down` at once, the second waits for the first."""
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.home / "lock", "w", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def port_asked_for() -> int | None:
    """The port that OLMO_PORT names, None where it is not set or empty. Raises OlmoError when it is no port."""
    named = os.environ.get("OLMO_PORT")
    try:
        return port_number(named) if named else None
    except ValueError as error:
        raise OlmoError(f"OLMO_PORT: {error}") from error


def port_number(text: str) -> int:
    """The port that a text names. Raises ValueError when it names none."""
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port, that is a number from 1 to 65535")
    return int(text)


def api_url(port: int, host: str = HOST) -> str:
    """Address of the Prefect API of a server that listens on a port and an address or name (0.0.0.0: on all of them)."""
    name = reached_at(host)
    return f"http://{f'[{name}]' if ':' in name else name}:{port}/api"


def reached_at(host: str) -> str:
    """Where this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": HOST, "::": "::1"}.get(host, host)


def is_project(directory: Path) -> bool:
    """Whether a directory is the root of a checkout: it has the deployments and the flows they name."""
    return (directory / "prefect.yaml").is_file() and (directory / "flows" / "build_dolma.py").is_file()


def state_folder(directory: Path) -> Path:
    """The state folder of a project directory; OLMO_HOME, if set and not empty, has precedence."""
    home = os.environ.get("OLMO_HOME")
    return Path(home).expanduser().resolve() if home else directory / ".olmo"


def find_project(start: Path | None = None) -> Project:
    """The project of a directory: the nearest one upwards, else the checkout this package was installed from.

    Raises OlmoError when there is neither.
    """
    start = (start or Path.cwd()).resolve()
    for directory in (start, *start.parents, Path(__file__).resolve().parents[2]):
        if is_project(directory):
            return Project(directory=directory, home=state_folder(directory))
    raise OlmoError(f"no prefect.yaml with flows/ in {start} or above it; change to the project's directory")
