"""A Chromium that loads a page and tells what it had to say about it."""

from __future__ import annotations

import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def load(browser: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Load a page and let it come to rest; stderr has the console's lines."""
    profile = page.parent / "profile"
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    words += [f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000", *options]
    done = subprocess.run([browser, *words, page.as_uri()], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def console(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]
