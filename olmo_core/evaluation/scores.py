"""What a model said of a benchmark's items: one row for each choice, kept raw, so that every metric comes from one pass.

Shapes: n items, c choices of all items together, laid end to end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.errors import IntegrityError

Status = Literal["ok", "truncated", "empty", "not_finite", "too_long"]
"""`truncated`: the context's beginning did not fit and was left out, the score counts; the others are failures:
an empty choice, a log-likelihood that is not finite, a continuation longer than the model's context."""
STATUSES: tuple[Status, ...] = get_args(Status)
SCORED: frozenset[Status] = frozenset({"ok", "truncated"})

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ItemScores:
    """The scores of all choices of all items."""

    items: tuple[str, ...]
    """Ids (n,)."""
    offsets: Counts
    """Where each item's choices begin (n + 1,)."""
    log_likelihood: Floats
    """Natural log of the continuation's probability (c,); NaN where the status is a failure."""
    unconditional: Floats
    """The same after the unconditional context (c,); NaN where the benchmark has none."""
    tokens: Counts
    """Of the continuation (c,)."""
    characters: Counts
    """Unicode code points of the continuation (c,), a leading space included."""
    bytes: Counts
    """UTF-8 bytes of the continuation (c,), a leading space included."""
    leading_space: npt.NDArray[np.bool_]
    """Whether the continuation begins with a space (c,)."""
    status: tuple[Status, ...]
    """(c,)."""

    def __post_init__(self) -> None:
        """Raise IntegrityError where the columns do not fit each other."""
        rows = int(self.offsets[-1]) if len(self.offsets) else 0
        columns = (
            self.log_likelihood,
            self.unconditional,
            self.tokens,
            self.characters,
            self.bytes,
            self.leading_space,
        )
        if len(self.offsets) != len(self.items) + 1 or {len(c) for c in (*columns, self.status)} != {rows}:
            raise IntegrityError(f"scores of {len(self.items)} items: columns of different lengths; score them again")

    def choices(self, item: int) -> slice:
        """Return where an item's choices are."""
        return slice(int(self.offsets[item]), int(self.offsets[item + 1]))

    @property
    def scored(self) -> npt.NDArray[np.bool_]:
        """Whether every choice of an item has a score (n,); an item with a failure is counted, never scored."""
        good = np.array([s in SCORED for s in self.status], bool) & np.isfinite(self.log_likelihood)
        return np.array([bool(good[self.choices(i)].all()) for i in range(len(self.items))], bool)

    def count(self) -> dict[str, int]:
        """Return how many choices have each status, those that occur."""
        return {s: n for s in STATUSES if (n := self.status.count(s))}

    def table(self) -> pa.Table:
        """Return one row for each choice, as it is stored; what is no number is null."""
        number = np.repeat(np.arange(len(self.items)), np.diff(self.offsets))
        return pa.table(
            {
                "item": pa.array([self.items[i] for i in number], pa.string()),
                "choice": pa.array(np.arange(len(number)) - self.offsets[number], pa.int32()),
                "log_likelihood": pa.array(self.log_likelihood, from_pandas=True),
                "unconditional": pa.array(self.unconditional, from_pandas=True),
                "tokens": pa.array(self.tokens),
                "characters": pa.array(self.characters),
                "bytes": pa.array(self.bytes),
                "leading_space": pa.array(self.leading_space),
                "status": pa.array(self.status, pa.string()),
            }
        )

    @classmethod
    def from_table(cls, table: pa.Table) -> ItemScores:
        """Return the scores that `table` wrote. Raises IntegrityError where choices are out of order."""
        choice = table.column("choice").to_numpy()
        starts = np.flatnonzero(choice == 0)
        names = table.column("item").to_pylist()
        offsets = np.concatenate([starts, [len(names)]]).astype(np.int64)
        whole = not len(names) or choice[0] == 0
        if not whole or (choice != np.arange(len(names)) - np.repeat(starts, np.diff(offsets))).any():
            raise IntegrityError("stored scores are out of order; score the benchmark again")

        def numbers(name: str) -> Any:
            return table.column(name).to_numpy(zero_copy_only=False)

        return cls(
            items=tuple(names[i] for i in starts),
            offsets=offsets,
            log_likelihood=numbers("log_likelihood"),
            unconditional=numbers("unconditional"),
            tokens=numbers("tokens"),
            characters=numbers("characters"),
            bytes=numbers("bytes"),
            leading_space=numbers("leading_space"),
            status=tuple(table.column("status").to_pylist()),
        )


def scores_of(
    rows: Sequence[Sequence[tuple[str, float, float | None, int, Status]]], items: Sequence[str]
) -> ItemScores:
    """Return the scores of items given, for each choice, (continuation, log-likelihood, unconditional, tokens, status)."""
    flat = [choice for item in rows for choice in item]
    lengths = [len(item) for item in rows]
    texts = [text for text, *_ in flat]
    return ItemScores(
        items=tuple(items),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
        log_likelihood=np.array([ll if status in SCORED else np.nan for _, ll, _, _, status in flat], np.float64),
        unconditional=np.array([np.nan if u is None else u for _, _, u, _, _ in flat], np.float64),
        tokens=np.array([n for _, _, _, n, _ in flat], np.int64),
        characters=np.array([len(t) for t in texts], np.int64),
        bytes=np.array([len(t.encode("utf-8", "surrogatepass")) for t in texts], np.int64),
        leading_space=np.array([t.startswith(" ") for t in texts], bool),
        status=tuple(status for *_, status in flat),
    )
