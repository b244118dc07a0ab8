"""How fast documents are signed, by their length, and how long many documents take to resolve.

    .venv/bin/python -m benchmarks.near_duplicates_speed

One thread, CPU time, best of eight; compilation is not counted. Real prose, cut to pieces of one length; for the
resolution made-up documents of 60 words, one in five with a near copy. About 40 s.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from olmo_core.curation import signatures
from olmo_core.curation.near_duplicates import NearDuplicateRecipe, resolve
from olmo_core.curation.signatures import SignedDocuments
from tests.oracles.near_duplicate_corpus import real_texts

RECIPE = NearDuplicateRecipe()


def best_seconds(work: Callable[[], object], times: int = 8) -> float:
    """Least CPU time of this thread over some calls."""
    taken = []
    for _ in range(times):
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return min(taken)


def signing(prose: str) -> dict[int, float]:
    """MB/s of `signatures.tag` for documents of so many characters."""
    speeds = {}
    for size in (100, 300, 600, 2000, 10_000, 100_000):
        texts = pa.array([prose[i : i + size] for i in range(0, len(prose) - size, size)], pa.large_string())
        signatures.tag(texts[:2], RECIPE.signature)
        speeds[size] = texts.nbytes / 1e6 / best_seconds(partial(signatures.tag, texts, RECIPE.signature))
    return speeds


def resolving(count: int) -> dict[str, Any]:
    """Seconds of `resolve` for `count` documents, of which one in five has a copy with one word changed."""
    chance = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(50_000)])
    texts = [" ".join(words[chance.integers(0, 50_000, 60)]) for _ in range(count * 9 // 10)]
    texts += [text.replace(" ", " other ", 1) for text in texts[: count - len(texts)]]
    array = pa.array(texts, pa.large_string())
    rank = chance.permutation(len(texts))
    documents = SignedDocuments.from_columns(signatures.tag(array, RECIPE.signature), rank)
    found: list[int] = []

    def work() -> None:
        result = resolve(documents, lambda rows: array.take(pa.array(rows)), RECIPE)
        found.append(int((~result.keep).sum()))

    work()
    seconds = best_seconds(work, 3)
    return {"documents": len(texts), "megabytes": array.nbytes / 1e6, "dropped": found[0], "seconds": seconds}


def main() -> None:
    """Measure, write the JSON file, print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=200_000, help="documents to resolve")
    parser.add_argument("--json", type=Path, default=Path("bench-results/near-duplicates-speed.json"))
    options = parser.parse_args()
    prose = "\n\n".join(real_texts(1000, longest=8000))
    result = {"signing_mb_per_s": signing(prose), "resolving": resolving(options.documents)}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
