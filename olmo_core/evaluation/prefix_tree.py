"""Plans which tokens a model must see so that all requests are answered and shared beginnings are computed once.

Sorted by their tokens, requests with a common beginning are neighbours. Two levels of sharing come of it:

- a *row* holds a tree: the question once, then each choice, which attends to the question and to itself;
- a *group* of rows with a long common beginning (the worked examples before every question) has that beginning
  computed once, and its keys and values are handed to all its rows.

The last token of a continuation is a target only, never an input: choices of one token (A, B, C, D) add nothing to a row.

Shapes: T tokens of a row, M targets.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from olmo_core.evaluation.requests import Fitted

LEAST = 4
"""Common tokens from which on two requests may share a row."""
SHARE = 0.25
"""And the part of the request that they must be: less, and the row's mask costs more than the tokens it saves."""
ROW_TOKENS = 1024
"""Beyond this length a row takes only requests that share half of themselves: attention grows with its square."""
GROUP = 32
"""Common tokens from which on a beginning may be computed on its own."""
SAVED = 2048
"""And tokens that this must save: small groups make small batches."""


@dataclass(kw_only=True)
class Row:
    """A tree of tokens, laid out depth first."""

    tokens: list[int] = field(default_factory=list)
    """(T,)."""
    positions: list[int] = field(default_factory=list)
    """Place of each token in its own sequence (T,), the group's beginning counted."""
    parents: list[int] = field(default_factory=list)
    """Index in the row of the token before (T,); -1: the group's beginning, or nothing."""
    scored: list[tuple[int, int, int]] = field(default_factory=list)
    """M times (request, index in the row of the token before the target, target)."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def branches(self) -> bool:
        """Whether it is a tree and no plain sequence."""
        return any(parent != i - 1 for i, parent in enumerate(self.parents))

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Return which tokens of the row each may attend to (T, T): those before it in its own sequence, and itself."""
        seen = np.zeros((len(self), len(self)), bool)
        for i, parent in enumerate(self.parents):
            if parent >= 0:
                seen[i] = seen[parent]
            seen[i, i] = True
        return seen


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that begin alike."""

    prefix: tuple[int, ...]
    """The common beginning, computed once; empty for none."""
    rows: tuple[Row, ...]

    @property
    def tokens(self) -> int:
        """Tokens that the model must see."""
        return len(self.prefix) + sum(len(row) for row in self.rows)


def plan(requests: Sequence[Fitted], *, share: bool = True, only: Sequence[int] | None = None) -> list[Group]:
    """Return groups of rows that answer all requests, or `only` those of these numbers; with `share` False each request has a row of its own."""
    order = sorted(range(len(requests)) if only is None else only, key=lambda i: requests[i].inputs)
    if not share:
        return [Group(prefix=(), rows=tuple(row_of([(i, requests[i])], 0) for i in order))] if order else []
    common = [_common(requests[a].inputs, requests[b].inputs) for a, b in zip(order, order[1:], strict=False)]
    groups: list[Group] = []
    rest: list[tuple[int, Fitted]] = []
    cuts = [0, *(i + 1 for i, n in enumerate(common) if n < GROUP), len(order)]
    for first, end in zip(cuts, cuts[1:], strict=False):
        members = [(i, requests[i]) for i in order[first:end]]
        inner = common[first : end - 1]
        # At least the token before the first target stays in the row, so that every answer is read from it.
        shared = min([*inner, *(len(one.inputs) - len(one.targets) for _, one in members)], default=0)
        rows = _rows(members, inner, shared) if shared >= GROUP else []
        if (len(rows) - 1) * shared >= SAVED:
            groups.append(Group(prefix=members[0][1].inputs[:shared], rows=tuple(rows)))
        else:
            rest += members
    between = [_common(a.inputs, b.inputs) for (_, a), (_, b) in zip(rest, rest[1:], strict=False)]
    return [*groups, Group(prefix=(), rows=tuple(_rows(rest, between, 0)))] if rest else groups


def _rows(members: Sequence[tuple[int, Fitted]], common: Sequence[int], skip: int) -> list[Row]:
    rows: list[list[tuple[int, Fitted]]] = []
    length = 0
    for number, member in enumerate(members):
        own = len(member[1].inputs) - skip
        shared = common[number - 1] - skip if number else 0
        worth = shared >= max(LEAST, SHARE * own)
        if number and worth and (length + own - shared <= ROW_TOKENS or shared >= own / 2):
            rows[-1].append(member)
            length += own - shared
        else:
            rows.append([member])
            length = own
    return [row_of(row, skip) for row in rows]


def row_of(members: Sequence[tuple[int, Fitted]], skip: int) -> Row:
    """Return the tree of sorted requests, without their first `skip` tokens."""
    row = Row()
    path: list[int] = []
    """Index in the row of each token of the last request."""
    before: tuple[int, ...] = ()
    for number, one in members:
        inputs = one.inputs[skip:]
        del path[_common(before, inputs) :]
        for token in inputs[len(path) :]:
            row.parents.append(path[-1] if path else -1)
            row.positions.append(skip + len(path))
            path.append(len(row.tokens))
            row.tokens.append(token)
        before = inputs
        start = len(inputs) - len(one.targets)
        row.scored += [(number, path[start + i], target) for i, target in enumerate(one.targets)]
    return row


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Return how many tokens two sequences have in common at their beginning, by halving: slices compare fast."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def batches(rows: Sequence[Row], tokens: int) -> list[list[Row]]:
    """Return rows in batches of at most `tokens` tokens, filling included, longest first; a longer row is a batch alone."""
    found: list[list[Row]] = []
    for row in sorted(rows, key=len, reverse=True):
        if not found or (len(found[-1]) + 1) * len(found[-1][0]) > tokens:
            found.append([])
        found[-1].append(row)
    return found


def without(groups: Sequence[Group], known: Set[int], tokens: int) -> list[Group]:
    """Return groups without the batches that answer nothing but `known` requests; `batches` of what is left are the others."""
    found = []
    for group in groups:
        left = [b for b in batches(group.rows, tokens) if any(i not in known for row in b for i, _, _ in row.scored)]
        if left:
            found.append(replace(group, rows=tuple(row for batch in left for row in batch)))
    return found
