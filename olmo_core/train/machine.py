"""What this machine offers to training: GPUs and memory, asked without torch, so that a plan can be made anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

_CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Limits of a container, version 2 and 1."""
_PATIENCE = 10.0


def gpus() -> int:
    """Return how many GPUs this machine offers: by CUDA_VISIBLE_DEVICES, else by their device files."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1")])
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def memory_bytes() -> int:
    """Return this machine's memory, or that of the container this runs in where it is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP:
        try:
            text = Path(path).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            whole = min(whole, int(text))
    return whole


def gpu_memory_bytes() -> int | None:
    """Return the memory of the smallest GPU, by nvidia-smi; None where that does not tell."""
    if (command := shutil.which("nvidia-smi")) is None:
        return None
    try:
        done = subprocess.run(
            [command, "--query-gpu=memory.total", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=True,
        )
        return min((int(line) << 20 for line in done.stdout.split()), default=None)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
