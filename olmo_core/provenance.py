"""What ran: code, libraries and machine, for manifests and for deciding whose unfinished shards may be adopted."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from olmo_core.errors import OlmoError

_LIBRARIES = (
    "numpy",
    "pyarrow",
    "numba",
    "llvmlite",
    "tokenizers",
    "fasttext-numpy2-wheel",
    "zstandard",
    "orjson",
    "torch",
    "prefect",
)
_PACKAGE = Path(__file__).resolve().parent


def refuse_foreign_package() -> None:
    """Raise OlmoError when PyPI's `ai2-olmo-core`, which has the same import name, is installed beside us."""
    for name in ("ai2-olmo-core", "ai2-olmo"):
        try:
            metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        raise OlmoError(
            f"the package {name} is installed in this environment and owns the import name `olmo_core`, as olmo-flows does; "
            f"uninstall it (`pip uninstall ai2-olmo ai2-olmo-core`) or use a separate environment for it"
        )


@cache
def library_versions() -> Mapping[str, str]:
    """Return the versions of the libraries that decide bytes, where they are installed."""
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def code_digest() -> str:
    """Return a sha256 over the source files of `olmo_core` and the versions of the libraries that decide bytes."""
    digest = hashlib.sha256()
    for path in sorted([*_PACKAGE.rglob("*.py"), *_PACKAGE.rglob("*.npz")]):
        digest.update(str(path.relative_to(_PACKAGE)).encode() + b"\0" + path.read_bytes() + b"\0")
    machine = (sys.version_info[:2], platform.machine())
    digest.update(repr((sorted(library_versions().items()), machine)).encode())
    return digest.hexdigest()


@cache
def environment() -> Mapping[str, Any]:
    """Return code version and commit, Python, packages and machine, as JSON values."""
    try:
        version = metadata.version("olmo-flows")
    except metadata.PackageNotFoundError:
        version = "uninstalled"
    return {
        "olmo-flows": version,
        "commit": _commit(),
        "code": code_digest(),
        "python": sys.version.split()[0],
        "packages": dict(library_versions()),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 0,
    }


def _commit() -> str:
    """Return the commit of the checkout this runs from, with `+changes` when files differ, or an empty string."""
    try:
        run = ["git", "-C", str(_PACKAGE), "describe", "--always", "--abbrev=40", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(run, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
