"""Fails when pytest's output names a skipped test whose reason is not in the list of allowed reasons."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def main(output: Path, allowed: Path) -> int:
    """Compare the SKIPPED lines of a `pytest -rs` summary with the allowed reasons (one regular expression a line)."""
    reasons = [line.split("#")[0].strip() for line in allowed.read_text().splitlines()]
    patterns = [re.compile(r) for r in reasons if r]
    skipped = [line for line in output.read_text(errors="replace").splitlines() if line.startswith("SKIPPED")]
    wrong = [line for line in skipped if not any(p.search(line) for p in patterns)]
    for line in wrong:
        sys.stdout.write(f"skipped without an allowed reason: {line}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
