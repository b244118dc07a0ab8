"""How the command line shows things: aligned tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def show(rows: Sequence[Sequence[Any]], header: Sequence[str], left: int = 1, right: int = 0) -> None:
    """Print a table; the first `left` columns and all strings are aligned left, numbers and all of the last `right` columns right."""
    cells = [[_cell(v) for v in row] for row in rows]
    widths = [
        max(len(header[i]), *(len(row[i]) for row in cells)) if cells else len(header[i]) for i in range(len(header))
    ]
    numeric = [
        i >= len(header) - right or (i >= left and all(not isinstance(row[i], str) for row in rows))
        for i in range(len(header))
    ]
    for row in [list(header), *cells]:
        print("  ".join(v.rjust(w) if n else v.ljust(w) for v, w, n in zip(row, widths, numeric, strict=True)).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


def show_json(value: Any) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))
