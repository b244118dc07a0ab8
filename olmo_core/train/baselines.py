"""What a model must beat to have learnt more than which token follows which: a bigram model of the same tokens.

Three smoothings are fitted on the training tokens alone (what they choose by is a tenth that is kept apart from the counts),
and the one with the lowest loss on the held-out tokens is reported: a baseline at its best, not a straw man.

- add-k: (c(a, b) + k) / (c(a) + k V), k chosen among a few;
- interpolated: a mixture of bigram, unigram and uniform, weights by how often `a` was seen, fitted by expectation
  maximisation (Jelinek and Mercer 1980);
- Kneser-Ney, interpolated, with one discount n1 / (n1 + 2 n2) (Ney, Essen and Kneser 1994).

Targets are those of training: all tokens of a chunk but its first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from olmo_core.train.chunks import evenly_spread
from olmo_core.train.dataset import TokenDataset

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BLOCK = 4096
"""Chunks that are read at a time."""
_ADDED = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Values of k that are tried; 1 is "add one"."""
_ROUNDS = 20
"""Of expectation maximisation."""


@dataclass(frozen=True, kw_only=True)
class BigramLoss:
    """Cross-entropy per target on held-out tokens, in nats."""

    loss: float
    """The lowest."""
    smoothing: str
    """Which it is of."""
    all: Mapping[str, float]
    """By smoothing."""
    unigram: float
    """Of the unigram model with add-one smoothing, for comparison."""


def bigram_loss(train: TokenDataset, held_out: TokenDataset, *, held_out_chunks: int | None = None) -> BigramLoss:
    """Return the held-out loss of the best bigram model of the training tokens.

    `held_out_chunks`: only so many chunks, evenly spread, as a trainer's held-out loss may take. Memory: some 60 bytes
    for each pair of tokens that occurs, 8 times the vocabulary beside.
    """
    pairs = _Pairs(train.vocabulary, _pairs(train, None))
    kept, apart = _Pairs(train.vocabulary, _pairs(train, 0)), _counted(train.vocabulary, _pairs(train, 1))
    test = _counted(train.vocabulary, _pairs(held_out, None, held_out_chunks))
    added = min(_ADDED, key=lambda k: _loss(kept.added(apart[0], k), apart[1]))
    weights = kept.fit(*apart)
    losses = {
        "add one": _loss(pairs.added(test[0], 1.0), test[1]),
        f"add {added:g}": _loss(pairs.added(test[0], added), test[1]),
        "interpolated": _loss(pairs.interpolated(test[0], weights), test[1]),
        "Kneser-Ney": _loss(pairs.kneser_ney(test[0]), test[1]),
    }
    best = min(losses, key=lambda name: losses[name])
    unigram = _loss(pairs.unigram[test[0] % train.vocabulary], test[1])
    return BigramLoss(loss=losses[best], smoothing=best, all=losses, unigram=unigram)


class _Pairs:
    """Counts of pairs of tokens a b, each as the number a V + b, and the models that they make."""

    def __init__(self, vocabulary: int, pairs: Iterator[Counts]) -> None:
        self._v = vocabulary
        self._keys, self._counts = _counted(vocabulary, pairs)
        first, second = self._keys // vocabulary, self._keys % vocabulary
        self._of_first = np.bincount(first, self._counts, vocabulary)
        """Tokens that follow a."""
        of_second = np.bincount(second, self._counts, vocabulary)
        self.unigram: Floats = (of_second + 1) / (of_second.sum() + vocabulary)
        self._followers = np.bincount(first, minlength=vocabulary)
        """Different tokens that follow a."""
        self._preceding = np.bincount(second, minlength=vocabulary)
        """Different tokens that precede b."""

    def _count(self, keys: Counts) -> Floats:
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, self._counts[places], 0).astype(np.float64)

    def added(self, keys: Counts, k: float) -> Floats:
        """Return P(b | a) of pairs with k added to every count."""
        return (self._count(keys) + k) / (self._of_first[keys // self._v] + k * self._v)

    def _parts(self, keys: Counts) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Bigram, unigram and uniform probabilities (3, n), and the bucket of `a` by how often it was seen."""
        seen = self._of_first[keys // self._v]
        bigram = np.divide(self._count(keys), seen, out=np.zeros(len(keys)), where=seen > 0)
        parts = np.stack([bigram, self.unigram[keys % self._v], np.full(len(keys), 1 / self._v)])
        return parts, np.ceil(np.log2(seen + 1)).astype(np.int64)

    def fit(self, keys: Counts, counts: Counts) -> Floats:
        """Return the weights (bucket, 3) of the mixture that are likeliest for pairs that were kept apart."""
        parts, buckets = self._parts(keys)
        weights = np.full((64, 3), 1 / 3)
        for _ in range(_ROUNDS):
            shares = weights[buckets].T * parts
            shares *= counts / shares.sum(0)
            totals = np.stack([np.bincount(buckets, one, 64) for one in shares], axis=1)
            # One more of each: a bucket with nothing kept apart stays an even mixture.
            weights = (totals + 1) / (totals + 1).sum(1, keepdims=True)
        return weights

    def interpolated(self, keys: Counts, weights: Floats) -> Floats:
        """Return P(b | a) of pairs by the mixture."""
        parts, buckets = self._parts(keys)
        mixed: Floats = (weights[buckets].T * parts).sum(0)
        return mixed

    def kneser_ney(self, keys: Counts) -> Floats:
        """Return P(b | a) = (c(a b) - D) / c(a) + D followers(a) / c(a) P'(b), P' by the number of tokens before b."""
        ones, twos = int((self._counts == 1).sum()), int((self._counts == 2).sum())
        discount = ones / (ones + 2 * twos) if ones else 0.5
        first, second = keys // self._v, keys % self._v
        lower = (self._preceding[second] + 1) / (len(self._keys) + self._v)
        seen = self._of_first[first]
        known = np.maximum(self._count(keys) - discount, 0) + discount * self._followers[first] * lower
        return np.where(seen > 0, known / np.maximum(seen, 1), lower)


def _loss(probabilities: Floats, counts: Counts) -> float:
    return float(-(np.log(probabilities) * counts).sum() / counts.sum())


def _counted(vocabulary: int, pairs: Iterator[Counts]) -> tuple[Counts, Counts]:
    """Return the different pairs, sorted, and how often each occurs."""
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for block in pairs:
        some, times = np.unique(block, return_counts=True)
        merged, places = np.unique(np.concatenate([keys, some]), return_inverse=True)
        counts = np.bincount(places, np.concatenate([counts, times])).astype(np.int64)
        keys = merged
    return keys, counts


def _pairs(dataset: TokenDataset, apart: int | None, chunks: int | None = None) -> Iterator[Counts]:
    """Yield the pairs of chunks: of all for `apart` None, of every tenth for 1, of the others for 0."""
    numbers = evenly_spread(dataset.chunks, chunks)
    if apart is not None:
        numbers = numbers[(numbers % 10 == 9) == bool(apart)]
    for start in range(0, len(numbers), _BLOCK):
        rows = dataset.rows(numbers[start : start + _BLOCK])
        yield (rows[:, :-1] * dataset.vocabulary + rows[:, 1:]).ravel()
