"""Programs that tests need and Debian has: installed where we may."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence


def missing(programs: Sequence[str], packages: Sequence[str], what: str) -> str:
    """Install Debian's packages where programs are not there and we may; returns why they are still not, or nothing."""
    if all(shutil.which(program) for program in programs):
        return ""
    said = f"no {what}: apt-get install {' '.join(packages)}"
    if os.geteuid() or not shutil.which("apt-get"):
        return said
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=200")
    for command in ((*apt, "update"), (*apt, "install", "-y", "--no-install-recommends", *packages)):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    return f"{said} (tried: {done.stderr.strip()[-200:]})" if done.returncode else ""
