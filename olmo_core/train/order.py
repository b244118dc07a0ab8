"""Which chunks of the tokens are in which batch: pure functions, the same for every number of ranks and workers.

An epoch has a permutation of the chunks, from seed and epoch alone. Batch `index`, counted from 0 through all epochs, is
the next `batch` chunks of it; what is left at the end of an epoch and is less than a batch is left out, as OLMo does.

`permutation` is an unbalanced Feistel network over the bits of the position (Luby and Rackoff 1988; unbalanced: Schneier
and Kelsey 1996) that walks its cycles until it is below the number of chunks (Black and Rogaway 2002, section 3): no
memory, any position alone, and its inverse as cheap. `olmo` is OLMo's `IterableDataset._build_global_indices`: 4 bytes a
chunk in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from olmo_core.errors import InputError, RecipeError

Ids = npt.NDArray[np.int64]
_ROUNDS = 16
"""Four are enough for a pseudo-random permutation of many bits; few bits need more, and they are cheap."""
_BLOCK = 4096
"""Positions looked up at once: less than a microsecond each; alone, the few of a small batch cost up to a millisecond."""
_MOST = 2**32 - 1
"""Chunks that OLMo's order can number: it shuffles 32-bit integers."""


class Order:
    """A permutation of `chunks` chunks for each epoch (counted from 0)."""

    def __init__(self, kind: Literal["permutation", "olmo"], *, seed: int, chunks: int) -> None:
        """Raise InputError where OLMo's order cannot number so many chunks."""
        if kind == "olmo" and chunks >= _MOST:
            raise InputError(
                f"data.order: `olmo` numbers fewer than {_MOST:,} chunks, there are {chunks:,}; use `permutation`"
            )
        self.kind, self.seed, self.chunks = kind, seed, chunks
        self._cached: tuple[int, npt.NDArray[np.uint32]] | None = None
        bits = max(2, (max(chunks, 1) - 1).bit_length())
        self._low_bits, self._high_bits = bits // 2, bits - bits // 2

    def at(self, epoch: int, positions: npt.ArrayLike) -> Ids:
        """Return the chunks at positions (n,) of an epoch."""
        wanted = np.asarray(positions, np.int64)
        if self.kind == "olmo":
            return self._shuffled(epoch)[wanted].astype(np.int64)
        return self._walk(self._keys(epoch), wanted, forward=True)

    def positions(self, epoch: int, chunks: npt.ArrayLike) -> Ids:
        """Return the positions (n,) of chunks in an epoch: the inverse of `at`."""
        wanted = np.asarray(chunks, np.int64)
        if self.kind == "olmo":
            shuffled = self._shuffled(epoch)
            inverse = np.empty(self.chunks, np.uint32)
            inverse[shuffled] = np.arange(self.chunks, dtype=np.uint32)
            return inverse[wanted].astype(np.int64)
        return self._walk(self._keys(epoch), wanted, forward=False)

    def _shuffled(self, epoch: int) -> npt.NDArray[np.uint32]:
        if self._cached is None or self._cached[0] != epoch:
            chunks = np.arange(self.chunks, dtype=np.uint32)
            np.random.Generator(np.random.PCG64(seed=self.seed + epoch)).shuffle(chunks)
            self._cached = (epoch, chunks)
        return self._cached[1]

    def _keys(self, epoch: int) -> npt.NDArray[np.uint64]:
        text = f"order\0{self.seed}\0{epoch}".encode()
        raw = b"".join(hashlib.blake2b(text, digest_size=8, salt=bytes([i])).digest() for i in range(_ROUNDS))
        return np.frombuffer(raw, "<u8").astype(np.uint64)

    def _walk(self, keys: npt.NDArray[np.uint64], start: Ids, *, forward: bool) -> Ids:
        """Apply the network until every value is below `chunks`: fewer than two times on average."""
        out = self._network(keys, start.astype(np.uint64), forward)
        while True:
            outside = np.flatnonzero(out >= self.chunks)
            if not len(outside):
                return out.astype(np.int64)
            out[outside] = self._network(keys, out[outside], forward)

    def _network(
        self, keys: npt.NDArray[np.uint64], values: npt.NDArray[np.uint64], forward: bool
    ) -> npt.NDArray[np.uint64]:
        low_bits, high_bits = np.uint64(self._low_bits), np.uint64(self._high_bits)
        low_mask, high_mask = (np.uint64((1 << int(bits)) - 1) for bits in (low_bits, high_bits))
        low, high = values & low_mask, values >> low_bits
        # Each half is changed by a function of the other in turn: every round is its own inverse.
        for number in range(_ROUNDS) if forward else reversed(range(_ROUNDS)):
            if number % 2:
                low = low ^ (_mixed(high ^ keys[number]) & low_mask)
            else:
                high = high ^ (_mixed(low ^ keys[number]) & high_mask)
        return (high << low_bits) | low


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a hash of each value: the finalizer of splitmix64 (Steele, Lea, Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class Batches:
    """The chunks of every batch of a run, and the batches of every chunk."""

    def __init__(self, order: Order, batch: int) -> None:
        """Raise InputError when the chunks are fewer than one batch."""
        if order.chunks < batch:
            raise InputError(
                f"batch: {batch} instances, but the tokens make only {order.chunks} whole chunks of data.sequence_length; "
                f"lower batch or data.sequence_length, or give more tokens"
            )
        self.order, self.batch = order, batch
        self.per_epoch = order.chunks // batch
        self.dropped_chunks = order.chunks % batch
        """Chunks of each epoch that no batch has; others in each."""
        self._at_once = max(1, _BLOCK // batch)
        self._block: tuple[tuple[int, int], Ids] | None = None

    def instances(self, index: int) -> Ids:
        """Return the chunks (batch,) of the batch `index`, counted from 0 through all epochs."""
        epoch, within = divmod(index, self.per_epoch)
        number, row = divmod(within, self._at_once)
        block = self._block
        if block is None or block[0] != (epoch, number):
            first = number * self._at_once
            count = min(self._at_once, self.per_epoch - first)
            positions = first * self.batch + np.arange(count * self.batch)
            self._block = block = ((epoch, number), self.order.at(epoch, positions).reshape(count, self.batch))
        chosen: Ids = block[1][row].copy()
        return chosen

    def of_chunks(self, chunks: Sequence[int], below: int) -> list[tuple[int, int, int]]:
        """Return (batch index, row, chunk) of every appearance of chunks in batches before `below`, in that order."""
        found = []
        for epoch in range(-(-below // self.per_epoch)):
            for chunk, position in zip(chunks, self.order.positions(epoch, chunks).tolist(), strict=True):
                within, row = divmod(position, self.batch)
                index = epoch * self.per_epoch + within
                if within < self.per_epoch and index < below:
                    found.append((index, row, int(chunk)))
        return sorted(found)


Ranges = Iterable[tuple[int, int]]
"""Half-open ranges of batch indices."""


def batch_of_step(step: int, skipped: Ranges = ()) -> int:
    """Return the index of the batch that step `step` (from 1) trains on, where ranges of batches were left out.

    The same number is a state's `next_batch` after `step - 1` steps.
    """
    if step < 1:
        raise RecipeError(f"step {step} has no batch: steps count from 1, step 0 is the state before training")
    index = step - 1
    for first, end in _joined(skipped):
        if first <= index:
            index += end - first
    return index


def step_of_batch(index: int, skipped: Ranges = ()) -> int | None:
    """Return the step (from 1) that trains on the batch `index`; None for a batch that was left out."""
    before = 0
    for first, end in _joined(skipped):
        if first <= index < end:
            return None
        before += end - first if end <= index else 0
    return index - before + 1


def _joined(ranges: Ranges) -> list[tuple[int, int]]:
    """Return the ranges in order, none empty, those that touch or overlap as one."""
    out: list[tuple[int, int]] = []
    for first, end in sorted((int(first), int(end)) for first, end in ranges):
        if end <= first:
            continue
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((first, end))
    return out
