"""Two corpora side by side: their waterfalls line by line, and from which stages on, and why, they are not the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.recipe import differences
from olmo_core.report.waterfall import WaterfallLine, waterfall


@dataclass(frozen=True, kw_only=True)
class LinePair:
    """One line of both waterfalls; None where a corpus has no such line, as of a rule that dropped nothing."""

    stage: str
    source: str
    what: str
    a: WaterfallLine | None
    b: WaterfallLine | None

    def change(self, number: str) -> int:
        """Return by how much `documents`, `bytes` or `tokens` differ, b - a; what a stage took away counts as negative."""
        first, second = (_signed(line, number) for line in (self.a, self.b))
        return second - first

    def to_json(self) -> dict[str, Any]:
        """Return the pair as JSON values: the numbers of both, signed as a waterfall shows them, and their changes.

        Tokens are there where they are counted: in the stage `packing`. Estimates of two corpora rest on different documents.
        """
        numbers = ("documents", "bytes") + (("tokens",) if self.stage == "packing" else ())
        return {
            "stage": self.stage,
            "source": self.source,
            "what": self.what,
            **{side: {n: _signed(line, n) for n in numbers} for side, line in (("a", self.a), ("b", self.b))},
            "change": {n: self.change(n) for n in numbers},
        }


@dataclass(frozen=True, kw_only=True)
class TwoCorpora:
    """What two corpora have in common, and what not."""

    lines: tuple[LinePair, ...]
    same: tuple[str, ...]
    """Stages (`stage/source`) that are one artifact, used by both."""
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Stages whose own recipe or version differs -> how, as `path: a -> b`."""
    only_a: tuple[str, ...] = ()
    only_b: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()
    """Stages that differ only because something before them does."""

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        reasons = {label: list(told) for label, told in self.reasons.items()}
        return {**self.__dict__, "lines": [one.to_json() for one in self.lines], "reasons": reasons}


def compare(a: Mapping[str, Manifest], b: Mapping[str, Manifest]) -> TwoCorpora:
    """Compare two corpora, given the manifests of each by `stage/source`.

    Raises IntegrityError when a stage of one did not get exactly what the one before it kept.
    """
    both = [label for label in a if label in b]
    reasons = {label: why for label in both if a[label].ref != b[label].ref and (why := _why(a[label], b[label]))}
    same = tuple(label for label in both if a[label].ref == b[label].ref)
    return TwoCorpora(
        lines=tuple(_pairs(waterfall(a), waterfall(b))),
        same=same,
        reasons=reasons,
        only_a=tuple(label for label in a if label not in b),
        only_b=tuple(label for label in b if label not in a),
        follow=tuple(label for label in both if label not in same and label not in reasons),
    )


def _pairs(a: list[WaterfallLine], b: list[WaterfallLine]) -> list[LinePair]:
    """Return all lines of both in the order of the first; what only the second has comes after what it follows there."""
    firsts, seconds = ({(one.stage, one.source, one.what): one for one in lines} for lines in (a, b))
    order = list(firsts)
    before: tuple[str, str, str] | None = None
    for key in seconds:
        if key not in firsts:
            order.insert(order.index(before) + 1 if before else 0, key)
        before = key
    return [LinePair(stage=key[0], source=key[1], what=key[2], a=firsts.get(key), b=seconds.get(key)) for key in order]


def _signed(line: WaterfallLine | None, number: str) -> int:
    value = int(getattr(line, number)) if line else 0
    return -value if line and line.sign == "-" else value


def _why(a: Manifest, b: Manifest) -> tuple[str, ...]:
    told = differences(_by_name(a.recipe), _by_name(b.recipe)) or differences(dict(a.recipe), dict(b.recipe))
    return tuple(told) + ((f"stage version: {a.version} -> {b.version}",) if a.version != b.version else ())


def _by_name(value: Any) -> Any:
    """Return a recipe in which parts with names, such as rules, stand under them, not under their places in a list."""
    if isinstance(value, Mapping):
        return {key: _by_name(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, Mapping) and "name" in one for one in value):
        return {str(one["name"]): {key: _by_name(part) for key, part in one.items() if key != "name"} for one in value}
    return value
