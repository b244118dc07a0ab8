"""MB/s of CPU time of decontamination's rules over prose of this Python environment: `python -m benchmarks.decontamination_speed`.

Evaluation items are every fiftieth document's paragraphs, so that there are matches; the others are searched.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa

from olmo_core.curation.contamination import collect
from olmo_core.curation.contamination_verdicts import ITEMS, index_of, judge
from olmo_core.curation.decontamination import DecontaminationRecipe, NgramRule
from olmo_core.curation.evaluation_sets import EvaluationSet
from tests.oracles.environment_documents import environment_documents

ONE = EvaluationSet(name="held-out", kind="text")
BOTH = DecontaminationRecipe(sets=(ONE,))
CASES = {
    "paragraphs and whole documents": replace(BOTH, ngrams=None),
    "13-grams alone": replace(BOTH, paragraphs=None, ngrams=NgramRule(shortest=13)),
    "13-grams, short items from 8 words": replace(BOTH, paragraphs=None),
    "both rules": BOTH,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--times", type=int, default=5)
    arguments = parser.parse_args()
    prose = [d.text for d in environment_documents() if d.kind == "prose"]
    held_out = [p for text in prose[::50] for p in text.split("\n\n") if p.strip()]
    rest = [text for k, text in enumerate(prose) if k % 50]
    size = sum(len(text.encode()) for text in rest)
    texts = pa.array(rest * max(1, arguments.megabytes * 1_000_000 // size), pa.large_string())
    total = texts.nbytes - 8 * (len(texts) + 1)
    n = len(held_out)
    columns = [[ONE.name] * n, [str(k) for k in range(n)], ["f"] * n, [None] * n, [0] * n, [0] * n, [0] * n]
    items = pa.table([pa.array(c, f.type) for c, f in zip(columns, ITEMS, strict=True)], schema=ITEMS)
    wanted = np.ones(len(texts), bool)
    print(f"{len(texts)} documents, {total / 1e6:.1f} MB; {n} items")
    for name, recipe in CASES.items():
        began = time.process_time()
        keys = collect(pa.array(held_out, pa.large_string()), recipe, ("paragraphs", "ngrams"))
        collected = time.process_time() - began
        index = index_of(items, keys, (ONE.name,))
        seconds = []
        for _ in range(arguments.times + 1):
            began = time.process_time()
            verdicts, _ = judge(texts, wanted, index, recipe)
            seconds.append(time.process_time() - began)
        speed = total / 1e6 / float(np.median(seconds[1:]))
        dropped = verdicts.column("keep").to_pylist().count(False)
        print(f"{name:36} {speed:8.0f} MB/s   {dropped} dropped; index in {collected:.2f} s of CPU with compilation")


if __name__ == "__main__":
    main()
