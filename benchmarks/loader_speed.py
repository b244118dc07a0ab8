"""Time of a batch of the training loader, on tokens made up for it, as JSON.

    python -m benchmarks.loader_speed [--batch 8] [--length 2048] [--tokens 16000000]

`read` is the time of one batch in this thread, `waited` what a trainer waits that takes 10 ms a step, while a thread reads
ahead. The files are warm in the page cache; medians of 200 batches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from olmo_core.train.chunks import OpenFile
from olmo_core.train.dataset import TokenDataset
from olmo_core.train.loader import Loader
from olmo_core.train.recipe import DataRecipe, RepetitionRecipe

OPTIONS = {
    "permutation": DataRecipe(),
    "olmo": DataRecipe(order="olmo"),
    "documents and repetition": DataRecipe(mask_documents=True, repetition=RepetitionRecipe()),
}
_TIMES, _STEP = 200, 0.01


def median(work: Callable[[], object]) -> float:
    """Return the median seconds of a call."""
    times = []
    for _ in range(_TIMES):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def measured(batch: int, length: int, tokens: int) -> dict[str, object]:
    """Return milliseconds of a batch, and tokens a second, for each of OPTIONS."""
    found: dict[str, object] = {"batch": batch, "length": length}
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number in range(4):
            path = Path(folder) / f"{number}.npy"
            np.random.default_rng(number).integers(0, 50_280, tokens // 4).astype(np.uint16).tofile(path)
            files.append(OpenFile(name=path.name, path=str(path), sha256="", dtype="uint16", tokens=tokens // 4))
        dataset = TokenDataset(files, sequence_length=length, vocabulary=50_280, end_of_text_id=50_279)
        for name, recipe in OPTIONS.items():
            loader = Loader(dataset, DataRecipe(**{**recipe.__dict__, "sequence_length": length}), batch=batch)
            indices = iter(range(10 * _TIMES))
            seconds = median(lambda: loader.batch(next(indices)))  # noqa: B023 (called at once)
            ahead = loader.prefetch(0)
            waited = []
            for _ in range(_TIMES // 2):
                time.sleep(_STEP)
                began = time.perf_counter()
                next(ahead)
                waited.append(time.perf_counter() - began)
            ahead.close()  # type: ignore[attr-defined]
            found[name] = {
                "read_ms": round(1e3 * seconds, 3),
                "waited_ms": round(1e3 * statistics.median(waited), 3),
                "tokens_per_second": round(batch * length / seconds),
            }
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=16_000_000)
    chosen = parser.parse_args()
    print(json.dumps(measured(chosen.batch, chosen.length, chosen.tokens), indent=1))
