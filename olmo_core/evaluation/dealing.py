"""Who computes which batches: in processes that have the whole model each, and in those that have a part of it each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from olmo_core.evaluation.prefix_tree import Group, Row, batches


@dataclass(frozen=True, kw_only=True)
class Share:
    """Batches of one group that fall to one rank."""

    group: Group
    batches: list[list[Row]]
    wanted: list[bool]
    """Whether a batch's answers count: a rank that shares one model with others runs with them where it has nothing to do."""


def deal(groups: Sequence[Group], tokens: int, rank: int, size: int, *, lockstep: bool = False) -> list[Share]:
    """Return what falls to a rank; all ranks together have every batch once. The batches are those of one process.

    A group goes to one rank, so that its beginning is computed once, but for one that is too large a part of all work. With
    `lockstep` every rank goes through all groups with the same number of batches: then each forward pass is one of all ranks.
    """
    made = [batches(group.rows, tokens) for group in groups]
    if lockstep:
        return [_in_step(group, some, rank, size) for group, some in zip(groups, made, strict=True)]
    whole = sum(group.tokens for group in groups) / (2 * size)
    units: list[tuple[int, int, list[int]]] = []
    """Tokens, group, batches."""
    for number, group in enumerate(groups):
        if group.prefix and group.tokens <= whole:
            units.append((group.tokens, number, list(range(len(made[number])))))
        else:
            units += [(sum(map(len, one)), number, [i]) for i, one in enumerate(made[number])]
    loads = [0] * size
    mine: dict[int, list[int]] = {}
    for work, number, some in sorted(units, key=lambda unit: (-unit[0], unit[1], unit[2])):
        least = loads.index(min(loads))
        loads[least] += work
        if least == rank:
            mine.setdefault(number, []).extend(some)
    return [
        Share(group=groups[n], batches=[made[n][i] for i in sorted(some)], wanted=[True] * len(some))
        for n, some in sorted(mine.items())
    ]


def _in_step(group: Group, made: list[list[Row]], rank: int, size: int) -> Share:
    rounds = -(-len(made) // size)
    numbers = [i * size + rank for i in range(rounds)]
    wanted = [n < len(made) for n in numbers]
    # The last, whose rows are the shortest, once more.
    return Share(group=group, batches=[made[min(n, len(made) - 1)] for n in numbers], wanted=wanted)
