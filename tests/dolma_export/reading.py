"""Reading an export with nothing but Python's own gzip and JSON."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from olmo_core.curation.layout import document_objects
from tests.small_corpus import Run

STAGES = ["content", "language", "near-duplicates", "pii", "quality", "selection"]
Records = list[dict[str, Any]]


def read_lines(path: Path) -> Records:
    """Lines at line feeds only: U+2028 and its like are characters of a text."""
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).split(b"\n")[:-1]]


def every_file(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def keys_of(small: Run, source: str) -> list[str]:
    return [one.key for one in document_objects(small.manifest(f"documents/{source}"))]
