"""Scores that were computed once, kept on disk by what decides them: weights, tokenizer, number type, token ids.

A key without the weights hands out another model's numbers (lm-eval 0.4.13 does, with the same path). Here another
checkpoint, tokenizer or precision is another folder. Each process appends to a file of its own; a record that was cut by a
kill is seen by its checksum and left out, so a rerun goes on after the last whole one.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from olmo_core.evaluation.requests import Scored
from olmo_core.evaluation.scores import STATUSES
from olmo_core.recipe import fingerprint

log = logging.getLogger(__name__)

_RECORD = struct.Struct("<16sdIIBBxxI")
"""Key, log-likelihood, tokens, dropped, status, greedy, checksum of what is before."""
_SUFFIX = ".scores"
_VERSION = 2
"""Counts up when scoring gives other numbers, by more than rounding, for the same weights and tokens. 2: transformers' models
that scale their logits, or do not follow trees."""


class ScoreCache:
    """Scores of one model, by request key. Safe for several processes at a time: each writes its own file."""

    def __init__(self, folder: str | Path, *, weights: str, tokenizer: str, dtype: str) -> None:
        """Read what is there. `weights` and `tokenizer` are digests; `dtype` names type and device kind of the computation."""
        identity = fingerprint({"version": _VERSION, "weights": weights, "tokenizer": tokenizer, "dtype": dtype})
        self.folder = Path(folder) / identity[:32]
        self._known: dict[bytes, Scored] = {}
        self._out: IO[bytes] | None = None
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")) if self.folder.is_dir() else []:
            self._known.update(_read(path))

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: bytes) -> Scored | None:
        """Return the score of a request, or None."""
        return self._known.get(key)

    def put(self, scores: Iterable[tuple[bytes, Scored]]) -> None:
        """Add scores, and hand them to the operating system before returning: a killed process loses none of them."""
        records = []
        for key, score in scores:
            self._known[key] = score
            head = _RECORD.pack(
                key,
                score.log_likelihood,
                score.tokens,
                score.dropped,
                STATUSES.index(score.status),
                score.greedy,
                0,
            )[:-4]
            records.append(head + struct.pack("<I", zlib.crc32(head)))
        if self._out is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Open from the first score to `close`: one file for the whole run.
            self._out = open(self.folder / f"{os.getpid()}-{secrets.token_hex(4)}{_SUFFIX}", "ab")  # noqa: SIM115
        self._out.write(b"".join(records))
        self._out.flush()

    def close(self) -> None:
        """Close the file."""
        if self._out is not None:
            self._out.close()
            self._out = None


def _read(path: Path) -> dict[bytes, Scored]:
    raw = path.read_bytes()
    found: dict[bytes, Scored] = {}
    for start in range(0, len(raw) - _RECORD.size + 1, _RECORD.size):
        record = raw[start : start + _RECORD.size]
        key, value, tokens, dropped, status, greedy, checksum = _RECORD.unpack(record)
        if zlib.crc32(record[:-4]) != checksum or status >= len(STATUSES):
            log.warning("%s: record at byte %d is damaged; it and what follows is scored again", path, start)
            break
        found[key] = Scored(
            log_likelihood=value, tokens=tokens, greedy=bool(greedy), status=STATUSES[status], dropped=dropped
        )
    return {key: one for key, one in found.items() if one.status != "ok" or math.isfinite(one.log_likelihood)}
