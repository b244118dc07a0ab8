"""A Chromium that loads a page and tells what it had to say about it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def load(browser: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Load a page and let it come to rest; stderr has the console's lines."""
    return visit(browser, page.as_uri(), page.parent / "profile", *options)


def visit(browser: str, address: str, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Load what is at an address, as `load` does."""
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    words += [f"--user-data-dir={profile}", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000", *options]
    done = subprocess.run([browser, *words, address], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def seen(browser: str, address: str, profile: Path) -> str:
    """Return the text of a page once its programs have come to rest, spaces made one."""
    page = visit(browser, address, profile, "--virtual-time-budget=30000", "--dump-dom").stdout
    without = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", without).split())


def console(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]
