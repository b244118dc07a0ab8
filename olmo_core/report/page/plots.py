"""Histograms as inline SVG: logarithmic counts, scales as the bins were cut, thresholds drawn in.

Numbers are written with one decimal, so that the same counts give the same bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from olmo_core.curation.histograms import Scale, breaks, cut_of, failing
from olmo_core.curation.rules import Rule
from olmo_core.report.page.elements import attribute, text

WIDTH, HEIGHT = 330, 132
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 6, 14, 18
_NARROW = 0.3
"""Bins that a threshold cuts narrower than this part of a regular one are drawn with the neighbour on their side."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: from and to in units of a regular bin, its rows, and the value range it stands for."""

    low: float
    high: float
    rows: int
    fails: bool
    label: str
    inner: int = 0
    """Rows of a part that is drawn darker."""

    @property
    def density(self) -> float:
        """Rows for each regular bin."""
        return self.rows / (self.high - self.low)


def place(scale: Scale, value: float) -> float:
    """Return where a value stands on the x axis, in units of a regular bin."""
    if scale == "fraction":
        return min(value, 1.0) * 50
    if scale == "length":
        return value * 2
    if scale == "count":
        return value if value < 10 else 10 + 10 * math.log10(value / 10)
    lowest = 1e-4 if scale == "ratio" else 1e-6
    return -1.0 if value < lowest else 10 * math.log10(value / lowest)


def bars(
    scale: Scale,
    counts: npt.NDArray[np.int64],
    places: npt.NDArray[np.float64],
    rules: Sequence[Rule],
    inner: npt.NDArray[np.int64] | None = None,
) -> list[Bar]:
    """Return the bars of a histogram, empty ones left out. A bin fails when one of the rules does."""
    if scale == "boolean":
        fails = failing(rules[0], scale, places) if rules else np.zeros(2, bool)
        return [
            Bar(low=i * 2, high=i * 2 + 1.4, rows=int(counts[i]), fails=bool(fails[i]), label=("false", "true")[i])
            for i in (0, 1)
        ]
    marks = [failing(rule, scale, places) for rule in rules]
    sides = [tuple(bool(m[i]) for m in marks) for i in range(len(counts))]
    edges = _edges(scale, places)
    found: list[Bar] = []
    waiting, waiting_inner, begins = 0, 0, None
    for i, rows in enumerate(counts.tolist()):
        low, high = edges[i] if begins is None else (begins, edges[i][1])
        rows, dark = rows + waiting, (int(inner[i]) if inner is not None else 0) + waiting_inner
        waiting, waiting_inner, begins = 0, 0, None
        narrow = high - low < _NARROW
        if narrow and found and sides[i] == sides[i - 1] and abs(found[-1].high - low) < 1e-9:
            last = found.pop()
            rows, dark, low = rows + last.rows, dark + last.inner, last.low
        elif narrow and i + 1 < len(counts) and sides[i] == sides[i + 1]:
            waiting, waiting_inner, begins = rows, dark, low
            continue
        label = _range(scale, low, high, places, i)
        found.append(Bar(low=low, high=max(high, low + 0.2), rows=rows, fails=any(sides[i]), label=label, inner=dark))
    return [bar for bar in found if bar.rows]


def _edges(scale: Scale, places: npt.NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return the two ends of each bin on the axis; what lies below or beyond the scale gets a place beside it."""
    at = [place(scale, float(p)) for p in places]
    if scale in ("ratio", "number"):  # negative, then zero and what is smaller than the smallest decade
        at = [-3.5 if p < 0 else -2.0 if p == 0 else a for a, p in zip(at, places.tolist(), strict=True)]
        lowest = 1e-4 if scale == "ratio" else 1e-6
        at = [(-2.0 + p / lowest) if 0 < p < lowest else a for a, p in zip(at, places.tolist(), strict=True)]
    last = (at[-1] + 0.6, at[-1] + 1.6) if scale == "fraction" else (at[-1], at[-1] + 1)
    return [(at[0] - 1.5, at[0] - 0.5), *zip(at, at[1:], strict=False), last]


def _range(scale: Scale, low: float, high: float, places: npt.NDArray[np.float64], i: int) -> str:
    first = -math.inf if i == 0 else float(places[i - 1])
    last = math.inf if i == len(places) else float(places[i])
    if scale == "count" and last - first == 1:
        return short(first)
    if i == 0:
        return f"below {short(last)}"
    return f"{short(first)} or more" if math.isinf(last) else f"{short(first)} to {short(last)}"


def short(number: float) -> str:
    """Return a number for an axis: 0.25, 50, 12k, 3M."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= limit:
            return f"{number / limit:.4g}{unit}"
    return f"{number:.6g}"


def histogram(
    scale: Scale,
    counts: npt.NDArray[np.int64],
    rules: Sequence[Rule] = (),
    inner: npt.NDArray[np.int64] | None = None,
    title: str = "",
    open_below: str = "",
) -> str:
    """Return a histogram as SVG; `counts` as `histograms.dense` gives them, `inner` those of a part of the same rows.

    `open_below`: what to write where values below the (single) threshold were not counted.
    """
    places = breaks(scale, rules)
    drawn = bars(scale, counts, places, rules, inner)
    low, high = _visible(scale, drawn, [place(scale, cut_of(r, scale)) for r in rules if r.drop_if != "is"])
    most = max([bar.density for bar in drawn], default=1.0)
    across, down = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def x(at: float) -> float:
        return _LEFT + across * (at - low) / (high - low)

    def y(rows: float) -> float:
        return HEIGHT - _BOTTOM - down * math.log10(1 + rows) / math.log10(1 + most)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{attribute(title)}">']
    for power in range(_decades(most)):
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y(10**power):.1f}H{WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 4}" y="{y(10**power) + 3.5:.1f}" text-anchor="end">{short(10**power)}</text>'
        )
    for bar in drawn:
        left, right, top = x(bar.low) + 0.3, x(bar.high) - 0.3, y(bar.density)
        kind = "bad" if bar.fails else "all" if inner is not None else "ok"
        label = f"{bar.label}: {bar.rows:,}" + (f", {bar.inner:,} kept" if inner is not None else "")
        shape = f'x="{left:.1f}" width="{max(right - left, 0.8):.1f}"'
        parts.append(
            f'<rect class="{kind}" {shape} y="{top:.1f}" height="{HEIGHT - _BOTTOM - top:.1f}"><title>{text(label)}</title></rect>'
        )
        if bar.inner:
            top = y(bar.inner / (bar.high - bar.low))
            parts.append(
                f'<rect class="ok" {shape} y="{top:.1f}" height="{HEIGHT - _BOTTOM - top:.1f}" pointer-events="none"/>'
            )
    parts.append(f'<path class="axis" d="M{_LEFT} {HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}"/>')
    for at, label in _ticks(scale, low, high):
        parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - 5}" text-anchor="middle">{label}</text>')
    if open_below and rules:
        end = x(place(scale, cut_of(rules[0], scale)))
        parts.append(
            f'<rect class="open" x="{_LEFT + 1}" y="{_TOP + 4}" width="{max(end - _LEFT - 4, 1):.1f}" height="{down - 5}"/>'
            f'<text x="{(_LEFT + end) / 2:.1f}" y="{_TOP + down / 2:.1f}" text-anchor="middle">{text(open_below)}</text>'
        )
    for rule in rules:
        if rule.drop_if != "is":
            at = x(place(scale, cut_of(rule, scale)))
            anchor = "end" if at > WIDTH - 60 else "start" if at < _LEFT + 40 else "middle"
            parts.append(
                f'<path class="cut" d="M{at:.1f} {_TOP - 2}V{HEIGHT - _BOTTOM}"/>'
                f'<text class="cutname" x="{at:.1f}" y="{_TOP - 4}" text-anchor="{anchor}">{text(rule.drop_if)} {short(float(rule.value))}</text>'
            )
    return "".join([*parts, "</svg>"])


def _decades(most: float) -> int:
    return max(1, math.floor(math.log10(max(most, 1))) + 1)


def _visible(scale: Scale, drawn: Sequence[Bar], cuts: Sequence[float]) -> tuple[float, float]:
    """Return the part of the axis to draw: all of it for fractions, else what has rows and thresholds, and some room."""
    if scale == "boolean":
        return -0.8, 4.2
    if scale == "fraction":
        return min([0.0, *(bar.low for bar in drawn)]), max([50.0, *(bar.high for bar in drawn)])
    low = min([*(bar.low for bar in drawn), *cuts], default=0.0)
    high = max([*(bar.high for bar in drawn), *cuts], default=10.0)
    room = max(1.0, 0.04 * (high - low), (12 - (high - low)) / 2)
    floor = 0.0 if scale in ("count", "length") and low >= 0 else -math.inf
    return max(low - room, floor), high + room


def _ticks(scale: Scale, low: float, high: float) -> list[tuple[float, str]]:
    """Return where the axis is labelled, and how: round numbers, at most about eight."""
    if scale == "boolean":
        return [(0.7, "false"), (2.7, "true")]
    if scale == "fraction":
        return [(v / 5 * 50, f"{v / 5:g}") for v in range(6)]
    if scale == "length":
        step = 1 if high - low < 16 else 5
        return [(v * 2.0, str(v)) for v in range(0, 1000, step) if low <= v * 2 <= high]
    if scale == "count":
        found = [(place(scale, v), short(v)) for v in (0, 5, *(10.0**p for p in range(1, 13)))]
        found = [(at + (0.5 if at < 10 else 0), label) for at, label in found]
    else:
        first = -3 if scale == "ratio" else -5  # the lowest decade stands too near to 0
        found = [(-1.5, "0"), *((place(scale, 10.0**p), short(10.0**p)) for p in range(first, 13))]
    found = [tick for tick in found if low <= tick[0] <= high]
    if len(found) < 3:
        between = [m * 10.0**p for p in range(-6, 12) for m in (1, 2, 5)]
        found = [(place(scale, v), short(v)) for v in between if place(scale, v) > 0 and low <= place(scale, v) <= high]
    step = -(-len(found) // 9)
    return found[::step]
