"""How many near duplicates are found on real text, measured against exact Jaccard and drawn as an S-curve.

    .venv/bin/python -m benchmarks.near_duplicates_quality

Documents: prose that this Python installation carries (package metadata, licences, documentation) and two edited
copies of each, spread over Jaccard 0.3 to 1. Truth: shingle sets of Python strings, all pairs, none of the project's
code. Edited pairs are nearly independent of each other, so their Wilson intervals mean what they say; natural pairs
come in families of the same licence and are shown for themselves. About 2 minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasketch import MinHash, MinHashLSH

from olmo_core.curation import signatures
from olmo_core.curation.near_duplicates import EXACT, NEAR, NearDuplicateRecipe, resolve
from olmo_core.curation.signatures import SignedDocuments
from tests.oracles.near_duplicate_corpus import all_pairs, edited, jaccard, real_texts, shingles

BIN = 0.05
_FEWEST = 30
"""Pairs below which a bin is in the JSON file but not in the plot."""
Pairs = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95% score interval of a proportion (Wilson 1927)."""
    z, p = 1.959964, hits / trials
    middle = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return max(0.0, middle - half), min(1.0, middle + half)


def by_similarity(similarity: Shares, met: Flags, bands: int, rows: int) -> list[dict[str, Any]]:
    """One row for each bin of Jaccard similarity: pairs, share that met, its interval, the mean of the theory."""
    table = []
    for first in np.arange(0.2, 1.0, BIN).round(2).tolist():
        last = round(first + BIN, 2)
        here = (similarity >= first) & ((similarity < last) | (last == 1.0))
        if count := int(here.sum()):
            low, high = wilson(int(met[here].sum()), count)
            expected = float(np.mean(1 - (1 - similarity[here] ** rows) ** bands))
            row = {"from": first, "to": last, "pairs": count, "similarity": float(similarity[here].mean())}
            table.append({**row, "met": float(met[here].mean()), "low": low, "high": high, "theory": expected})
    return table


def shared_keys(keys: npt.NDArray[np.uint64], pairs: Pairs) -> Flags:
    """Which pairs have a band key in common."""
    return np.concatenate([np.any(keys[part[:, 0]] == keys[part[:, 1]], axis=1) for part in np.array_split(pairs, 64)])


def datasketch_candidates(sets: list[set[tuple[str, ...]]], threshold: float) -> tuple[set[tuple[int, int]], int, int]:
    """Pairs that `MinHashLSH` of 128 permutations makes candidates, and the bands and rows it chose."""
    index = MinHashLSH(threshold=threshold, num_perm=128)
    found: set[tuple[int, int]] = set()
    for row, one in enumerate(sets):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([" ".join(shingle).encode() for shingle in one])
        found.update((other, row) for other in index.query(sketch))
        index.insert(row, sketch)
    return found, index.b, index.r


def found_at(similarity: Shares, met: Flags, threshold: float) -> dict[str, float]:
    """Recall and precision of the flagged pairs as pairs at or above the threshold."""
    close = similarity >= threshold
    return {"recall": float(met[close].mean()), "precision": float(close[met].mean()), "flagged": int(met.sum())}


def measure(most: int) -> dict[str, Any]:
    """Everything that the JSON file holds."""
    recipe = NearDuplicateRecipe()
    base = real_texts(most, longest=8000)
    copies = [
        edited(text, 0.3 + 0.7 * ((i * 0.618034 + j / 2) % 1), 2 * i + j) for j in (0, 1) for i, text in enumerate(base)
    ]
    texts = base + copies
    sets = [shingles(text) for text in texts]
    pairs, similarity = all_pairs(sets)
    array = pa.array(texts, pa.large_string())
    signatures.tag(array[:8], recipe.signature)
    started = time.perf_counter()
    columns = signatures.tag(array, recipe.signature)
    signing = time.perf_counter() - started
    rank = np.random.default_rng(recipe.signature.seed).permutation(len(texts))
    documents = SignedDocuments.from_columns(columns, rank)
    started = time.perf_counter()
    found = resolve(documents, lambda rows: array.take(pa.array(rows)), recipe)
    resolving = time.perf_counter() - started

    met = shared_keys(documents.bands, pairs)
    theirs, bands, rows = datasketch_candidates(sets, recipe.threshold)
    met_theirs = np.array([(int(left), int(right)) in theirs for left, right in pairs], np.bool_)
    source = np.arange(len(texts)) % len(base)
    edits = (pairs[:, 0] < len(base)) & (source[pairs[:, 0]] == source[pairs[:, 1]])
    natural = (pairs < len(base)).all(axis=1)
    close = similarity >= recipe.threshold
    both_kept = found.keep[pairs].all(axis=1)
    dropped = np.flatnonzero(~found.keep)
    right = [jaccard(sets[row], sets[found.duplicate_of[row]]) >= recipe.threshold for row in dropped]
    own = recipe.signature
    return {
        "documents": len(texts),
        "natural_documents": len(base),
        "megabytes": array.nbytes / 1e6,
        "pairs_with_a_common_shingle": len(pairs),
        "threshold": recipe.threshold,
        "ours": {
            "bands": own.bands,
            "rows": own.rows,
            "candidates": found_at(similarity, met, recipe.threshold),
            "edited": by_similarity(similarity[edits], met[edits], own.bands, own.rows),
            "natural": by_similarity(similarity[natural], met[natural], own.bands, own.rows),
        },
        "datasketch": {
            "bands": bands,
            "rows": rows,
            "candidates": found_at(similarity, met_theirs, recipe.threshold),
            "edited": by_similarity(similarity[edits], met_theirs[edits], bands, rows),
        },
        "resolution": {
            "exact": int((found.kind == EXACT).sum()),
            "near": int((found.kind == NEAR).sum()),
            "pairs_compared": found.pairs,
            "close_pairs": int(close.sum()),
            "close_pairs_left": int((close & both_kept).sum()),
            "recall": float(1 - (close & both_kept).sum() / close.sum()),
            "precision": float(np.mean(right)),
        },
        "seconds": {"signing": signing, "resolving": resolving},
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """The S-curve: theory as lines, edited pairs as points with intervals, natural pairs as rings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    s = np.linspace(0, 1, 401)
    for name, label, colour, mark in (
        ("ours", "OLMo Flows", "#0b6e4f", "o"),
        ("datasketch", "datasketch default for 0.8", "#c8553d", "s"),
    ):
        of = result[name]
        b, r = of["bands"], of["rows"]
        axes.plot(s, 1 - (1 - s**r) ** b, color=colour, lw=1.8, label=f"{label}: theory, {b} bands x {r} rows")
        x, y, low, high = (
            np.array([row[k] for row in of["edited"] if row["pairs"] >= _FEWEST])
            for k in ("similarity", "met", "low", "high")
        )
        axes.errorbar(
            x,
            y,
            [y - low, high - y],
            fmt=mark,
            ms=5,
            color=colour,
            capsize=2.5,
            label=f"{label.removesuffix(' default for 0.8')}: edited copies, 95% interval",
        )
    x, y = (
        np.array([row[k] for row in result["ours"]["natural"] if row["pairs"] >= _FEWEST])
        for k in ("similarity", "met")
    )
    axes.plot(x, y, "o", mfc="none", ms=9, color="#0b6e4f", alpha=0.6, label="OLMo Flows: natural pairs (families)")
    axes.axvline(result["threshold"], color="0.45", lw=1, ls="--")
    axes.text(result["threshold"] + 0.006, 0.02, "dropped from here on\n(verified)", fontsize=8.5, color="0.3")
    axes.set(xlim=(0, 1.005), ylim=(-0.01, 1.02), xlabel="exact Jaccard similarity of word 5-grams")
    axes.set_ylabel("share of pairs that become candidates")
    axes.set_title(f"Near-duplicate candidates among {result['documents']:,} documents", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", fontsize=8.5)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure, write the JSON file and the plot, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--documents", type=int, default=1500, help="natural documents at most; two edits of each")
    parser.add_argument("--json", type=Path, default=Path("bench-results/near-duplicates-quality.json"))
    parser.add_argument("--plot", type=Path, default=Path("docs/images/near-duplicates-s-curve.png"))
    options = parser.parse_args()
    result = measure(options.documents)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    draw(result, options.plot)
    summary = {name: result[name]["candidates"] for name in ("ours", "datasketch")}
    print(json.dumps({**summary, "resolution": result["resolution"], "seconds": result["seconds"]}, indent=1))


if __name__ == "__main__":
    main()
