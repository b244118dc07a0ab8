"""Bigram losses against plain dictionaries, and against what is known of a chain."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from olmo_core.train.baselines import bigram_loss
from tests.train.token_artifacts import LENGTH, dataset_of


def test_add_one_and_kneser_ney_by_hand(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    trained = [
        draws.integers(0, 20, LENGTH * 40 + 3).astype("uint16"),
        draws.integers(5, 9, LENGTH * 7).astype("uint16"),
    ]
    held = [draws.integers(0, 30, LENGTH * 9).astype("uint16")]  # tokens never seen in training, too
    found = bigram_loss(
        dataset_of(tmp_path / "a", trained, vocabulary=30), dataset_of(tmp_path / "b", held, vocabulary=30)
    )

    def pairs(arrays: list[np.ndarray]) -> list[tuple[int, int]]:
        chunks = [a[i : i + LENGTH].tolist() for a in arrays for i in range(0, len(a) - LENGTH + 1, LENGTH)]
        return [(x, y) for chunk in chunks for x, y in zip(chunk, chunk[1:], strict=False)]

    counts, test = Counter(pairs(trained)), pairs(held)
    of_first, followers, preceding = Counter[int](), Counter[int](), Counter[int]()
    for (a, b), n in counts.items():
        of_first[a] += n
        followers[a] += 1
        preceding[b] += 1
    add_one = [(counts[a, b] + 1) / (of_first[a] + 30) for a, b in test]
    ones, twos = (sum(n == k for n in counts.values()) for k in (1, 2))
    d = ones / (ones + 2 * twos)

    def kneser_ney(a: int, b: int) -> float:
        lower = (preceding[b] + 1) / (len(counts) + 30)
        if not of_first[a]:
            return lower
        return max(counts[a, b] - d, 0) / of_first[a] + d * followers[a] / of_first[a] * lower

    assert sum(kneser_ney(7, b) for b in range(30)) == pytest.approx(1)
    assert found.all["add one"] == pytest.approx(-np.mean(np.log(add_one)))
    assert found.all["Kneser-Ney"] == pytest.approx(-np.mean([math.log(kneser_ney(a, b)) for a, b in test]))
    assert found.loss == min(found.all.values()) == found.all[found.smoothing]


def test_a_chain_is_learnt_almost_to_its_entropy(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    def chain(count: int, seed: int) -> np.ndarray:
        steps = np.random.default_rng(seed).integers(1, 5, count)  # one of four followers
        return (np.cumsum(steps) % 500).astype("uint16")

    train, held = dataset_of(tmp_path / "a", [chain(80_000, 1)]), dataset_of(tmp_path / "b", [chain(8_000, 2)])
    found = bigram_loss(train, held)
    assert math.log(4) < found.loss < math.log(4) + 0.05
    assert found.unigram == pytest.approx(math.log(500), abs=0.05)
    assert found.all["interpolated"] < found.all["add one"]
    assert bigram_loss(train, held, held_out_chunks=100).loss == pytest.approx(found.loss, abs=0.1)
