"""What OLMo is asked by `olmo_values.py` and we are asked by the tests: settings and inputs that any numpy makes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ORDERS = [
    {"chunks": chunks, "batch": batch, "seed": seed, "epoch": epoch, "world": world, "workers": workers}
    for chunks, batch, seed in ((103, 12, 6198), (96, 8, 0), (20_011, 64, 6198))
    for epoch in (0, 1, 2)
    for world, workers in ((1, 0), (2, 0), (4, 0), (4, 2), (1, 3))
]
"""Batches of a data loader, for ranks and workers."""
SHOWN = 4
"""Batches of each order that the golden file has in full; of the others it has the digest."""

CHUNK, END_OF_TEXT = 64, 9
REPETITIONS = [(1, 13, 32), (2, 5, 12), (1, 13, 4), (3, 3, 8)]
"""Shortest and longest period, and times."""
SCHEDULES: dict[str, dict[str, Any]] = {
    "1b": {
        "kind": "cosine_with_warmup", "learning_rate": 4e-4, "warmup": 2000, "final": 0.1, "units": "steps",
        "batch": 2048, "max_duration": 739_328, "clip_warmup": None, "clip_factor": None, "horizon": None,
    },
    "7b": {
        "kind": "linear_with_warmup", "learning_rate": 3e-4, "warmup": 5000, "final": 0.1, "units": "steps",
        "batch": 2048, "max_duration": "2e12T", "clip_warmup": 1000, "clip_factor": 10.0, "horizon": None,
    },
    "65b": {
        "kind": "cosine_with_warmup", "learning_rate": 1.5e-4, "warmup": 10_485_760_000, "final": 0.1, "units": "tokens",
        "batch": 2048, "max_duration": "2e12T", "clip_warmup": 2_097_152_000, "clip_factor": 5.0, "horizon": 2 * 10**12,
    },
    "constant": {
        "kind": "constant_with_warmup", "learning_rate": 4e-4, "warmup": 2000, "final": 1.0, "units": "steps",
        "batch": 2048, "max_duration": 10_000, "clip_warmup": None, "clip_factor": None, "horizon": None,
    },
    "horizon": {
        "kind": "cosine_with_warmup", "learning_rate": 6e-4, "warmup": 100, "final": 0.05, "units": "steps",
        "batch": 2048, "max_duration": 3000, "clip_warmup": 10, "clip_factor": 3.0, "horizon": 2500,
    },
}  # fmt: skip
"""As published (olmo.md, section 1), a constant one, and one whose shape ends before its run."""
BLOCK = 1024
"""Steps whose learning rates the golden file has as one sum, so that every step counts in a small file."""
SEQUENCE = 2048


def token_files() -> list[tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]]:
    """Return three files of ids, with tails, and their label masks."""
    found = []
    for number, size in enumerate((5 * CHUNK + 11, 3 * CHUNK, 2 * CHUNK + 63)):
        at = np.arange(size, dtype=np.int64)
        ids = (at * at * 31 + at * 7919 + number * 101) % 997
        ids[at % 23 == 5] = END_OF_TEXT
        ids[CHUNK + 3 : CHUNK + 45] = (at[:42] % 3) + 20  # 14 times a period of three
        found.append((ids.astype(np.uint16), (ids * 5 + at) % 3 != 0))
    return found


def instances() -> npt.NDArray[np.int64]:
    """Return 240 instances of 512 ids with planted repetitions of many periods and lengths, some just too short."""
    random = np.random.Generator(np.random.PCG64(5))
    rows = random.integers(0, 40, (240, 512))
    for row in rows:
        period, times = int(random.integers(1, 16)), int(random.integers(3, 36))
        piece = np.resize(random.integers(0, 40, period), min(period * times + int(random.integers(0, period)), 500))
        start = int(random.integers(0, 512 - len(piece) + 1))
        row[start : start + len(piece)] = piece
    return rows.astype(np.int64)
