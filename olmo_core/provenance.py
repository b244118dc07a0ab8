"""What ran: code, libraries and machine, for manifests and for deciding whose unfinished shards may be adopted."""

from __future__ import annotations

import contextlib
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
_CHANGED = "+changes"


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
    """Return code version, commit and uncommitted changes, Python, packages and hardware, as JSON values.

    None of it decides a fingerprint: `olmo reproduce` compares it to say why another machine made other bytes.
    """
    try:
        version = metadata.version("olmo-flows")
    except metadata.PackageNotFoundError:
        version = "uninstalled"
    commit = _commit()
    return {
        "olmo-flows": version,
        "commit": commit,
        "changes": _changes() if commit.endswith(_CHANGED) else "",
        "code": code_digest(),
        "python": sys.version.split()[0],
        "packages": installed_packages(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count() or 0,
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
        "processor": _processor(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": _gpus(),
    }


def installed_packages() -> dict[str, str]:
    """Return name and version of every package that is installed: 40 ms and 3 kB for a hundred."""
    found = {one.name: one.version for one in metadata.distributions() if one.name}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _git(*words: str) -> bytes:
    run = ["git", "-C", str(_PACKAGE), *words]
    return subprocess.run(run, capture_output=True, timeout=10, check=True).stdout


def _commit() -> str:
    """Return the commit of the checkout this runs from, with `+changes` when files differ, or an empty string."""
    try:
        found = _git("describe", "--always", "--abbrev=40", f"--dirty={_CHANGED}", "--exclude=*")
        return found.decode().strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _changes() -> str:
    """Return a sha256 of what differs from the commit in tracked files: two runs with one digest ran the same code."""
    try:
        return hashlib.sha256(_git("diff", "HEAD", "--no-ext-diff", "--no-textconv", "--binary")).hexdigest()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _processor() -> str:
    """Return the processor's name; an empty string where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _gpus() -> list[str]:
    """Return the models of this machine's NVIDIA GPUs, without torch: from the driver's files."""
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        with contextlib.suppress(OSError):
            lines = path.read_text(errors="replace").splitlines()
            found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model")]
    return found
