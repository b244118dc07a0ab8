"""The peers' environments: each its own, made by pip when it is missing, so that nothing of theirs reaches ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A package with its environment."""

    package: str
    """What must be importable there."""
    requirements: Path
    newest_python: tuple[int, int]
    """Newest Python that it installs on."""


PEERS = {
    "dolma": Peer(package="dolma", requirements=ROOT / "tests/oracles/dolma-requirements.txt", newest_python=(3, 12)),
    "datatrove": Peer(
        package="datatrove", requirements=ROOT / "benchmarks/datatrove-requirements.txt", newest_python=(3, 13)
    ),
    "lm_eval": Peer(
        package="lm_eval", requirements=ROOT / "tests/oracles/lm-eval-requirements.txt", newest_python=(3, 13)
    ),
}
DEFAULT = ROOT / ".venv-bench"
READY = "READY"
"""Written last, so that an installation that was cut short is made again."""


class EnvironmentUnavailable(Exception):
    """A peer's environment is missing and could not, or should not, be made."""


def interpreter(name: str, folder: Path | None, *, make: bool) -> Path:
    """Return the Python of a peer's environment, made in `folder` (default `.venv-bench/NAME`) when it is missing.

    Raises EnvironmentUnavailable when it is missing and `make` is off, or pip fails.
    """
    peer = PEERS[name]
    given, folder = folder, folder or DEFAULT / name
    python = folder / "bin" / "python"
    if (folder / READY).exists() or (given and python.exists() and _has(python, peer.package)):
        return python
    if not make:
        raise EnvironmentUnavailable(f"{name} is not installed in {folder}; without --quick it is installed there")
    suitable = _suitable_python(peer)
    print(f"installing {name} into {folder} (once, a minute or two)", flush=True)
    for command in (
        [suitable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(peer.requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise EnvironmentUnavailable(
                f"{name}: {' '.join(command)} failed: {' / '.join(done.stderr.strip().splitlines()[-3:])}"
            )
    if not _has(python, peer.package):
        raise EnvironmentUnavailable(f"{name}: installed into {folder}, but it is not there")
    (folder / READY).touch()
    return python


def _suitable_python(peer: Peer) -> str:
    if sys.version_info[:2] <= peer.newest_python:
        return sys.executable
    for minor in range(peer.newest_python[1], 10, -1):
        if found := shutil.which(f"python3.{minor}"):
            return found
    raise EnvironmentUnavailable(
        f"{peer.package} needs Python 3.{peer.newest_python[1]} or older, and none is on the path"
    )


def _has(python: Path, package: str) -> bool:
    command = [str(python), "-c", f"from importlib.metadata import version; version({package!r})"]
    return subprocess.run(command, capture_output=True).returncode == 0
