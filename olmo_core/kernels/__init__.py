"""Compiled loops over Arrow buffers.

Machine code is cached by numba, which watches only the file of the function it compiled, not those that it calls. So
the cache lies in a folder named by a digest of all kernels: changed kernels are never run from stale code, and an
installation that cannot be written to has a cache too. NUMBA_CACHE_DIR, where it is set, has precedence.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numba


def _cache_folder() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(root) / "olmo-flows" / "kernels" / digest.hexdigest()[:16])


if not os.environ.get("NUMBA_CACHE_DIR"):
    numba.config.CACHE_DIR = _cache_folder()  # type: ignore[attr-defined]  # set by numba from the environment
