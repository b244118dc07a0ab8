"""Curves over checkpoints and scores beside each other, as inline SVG: error bars, noise bands, what guessing reaches.

Numbers are written with one decimal, so that the same evaluations give the same bytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from olmo_core.evaluation.statistics import Interval
from olmo_core.report.page.elements import attribute, text
from olmo_core.report.page.plots import short

if TYPE_CHECKING:  # it imports torch, which pages without curves of evaluations need not wait for
    from olmo_core.evaluation.compare import Curve

WIDTH, HEIGHT = 340, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 36, 12, 10, 22
BAND = 2.0
"""Half the height of the band, in standard deviations of the last checkpoints about their line."""
_LAST = 8


def axis(curve: Curve) -> tuple[list[float], str]:
    """Return where the points stand and what is counted: tokens where all are known and differ, else steps, else their number."""
    for values, unit in ((curve.tokens, "tokens"), (curve.steps, "steps")):
        if all(v is not None for v in values) and len(set(values)) == len(values):
            return [float(v or 0) for v in values], unit
    return [float(i + 1) for i in range(len(curve.points))], "model"


def draw(curve: Curve, title: str) -> str:
    """Return a curve as SVG. Accuracies are percent; other numbers are as they are."""
    scale = 100.0 if _is_share(curve.metric) else 1.0
    at, unit = axis(curve)
    points = [_scaled(point, scale) for point in curve.points]
    known = [(x, p) for x, p in zip(at, points, strict=True) if not math.isnan(p.value)]
    if not known:
        return ""
    chance = None if curve.chance is None else scale * curve.chance
    low, high = _range([p for _, p in known], chance)
    left, right = at[0], at[-1] if at[-1] > at[0] else at[0] + 1

    def x(value: float) -> float:
        return _LEFT + 6 + (WIDTH - _LEFT - _RIGHT - 12) * (value - left) / (right - left)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{attribute(title)}">']
    for tick in ticks(low, high, 4):
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 4}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{short(tick)}</text>'
        )
    for tick in ticks(left, right, 4) if unit != "model" else at:
        parts.append(f'<text x="{x(tick):.1f}" y="{HEIGHT - 7}" text-anchor="middle">{short(tick)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}"/>')
    if (band := _band(curve, at, scale)) is not None:
        corners = [(x(a), y(min(high, max(low, b)))) for a, b in band]
        parts.append(f'<polygon class="band" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in corners)}"/>')
    if chance is not None and low <= chance <= high:
        parts.append(
            f'<path class="cut" d="M{_LEFT} {y(chance):.1f}H{WIDTH - _RIGHT}"><title>guessing: {chance:.1f}</title></path>'
        )
    line = "L".join(f"{x(a):.1f} {y(p.value):.1f}" for a, p in known)
    parts.append(f'<path class="line" d="M{line}"/>')
    for (a, p), label in zip(known, _labels(curve), strict=True):
        bar = "" if math.isnan(p.low) else f'<path class="bar" d="M{x(a):.1f} {y(p.low):.1f}V{y(p.high):.1f}"/>'
        said = f"{label}: {p.value:.3g}" + ("" if math.isnan(p.low) else f" ({p.low:.3g} to {p.high:.3g})")
        parts.append(
            f'{bar}<circle class="dot" cx="{x(a):.1f}" cy="{y(p.value):.1f}" r="3"><title>{text(said)}</title></circle>'
        )
    return "".join([*parts, "</svg>"])


def _labels(curve: Curve) -> list[str]:
    return [label for label, p in zip(curve.labels, curve.points, strict=True) if not math.isnan(p.value)]


def _is_share(metric: str) -> bool:
    return metric.startswith("acc_") or metric in ("mc2", "exact_match", "probability")


def _scaled(point: Interval, scale: float) -> Interval:
    return Interval(value=scale * point.value, low=scale * point.low, high=scale * point.high, n=point.n)


def _range(points: Sequence[Interval], chance: float | None) -> tuple[float, float]:
    ends = [v for p in points for v in (p.value, p.low, p.high) if not math.isnan(v)] + (
        [] if chance is None else [chance]
    )
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return low - room, high + room


def _band(curve: Curve, at: Sequence[float], scale: float) -> list[tuple[float, float]] | None:
    """Return the corners of the band about the line through the last checkpoints; None where its height is not known."""
    good = [(a, scale * p.value) for a, p in zip(at, curve.points, strict=True) if not math.isnan(p.value)][-_LAST:]
    half = BAND * scale * curve.noise.band
    if math.isnan(half) or len(good) < 2:
        return None
    # As the band is measured: the line is over the checkpoints' numbers, not over their tokens.
    places = np.arange(len(good), dtype=np.float64)
    fitted = np.polyval(np.polyfit(places, np.array([v for _, v in good]), 1), places).tolist()
    above = [(a, f + half) for (a, _), f in zip(good, fitted, strict=True)]
    return above + [(a, f - half) for (a, _), f in zip(reversed(good), reversed(fitted), strict=True)]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Return round numbers from `low` to `high`, about so many."""
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step - 1e-9)
    found = [round(i * step, 10) for i in range(first, math.floor(high / step + 1e-9) + 1)]
    return found if len(found) > 2 or about > 4 else ticks(low, high, 2 * about)


def forest(rows: Sequence[tuple[str, Interval, float | None, Sequence[tuple[str, float]]]], title: str) -> str:
    """Return scores beside each other: (name, interval, guessing, published numbers), percent from 0 to 100, one line for each."""
    left, step, width = 118, 22, 400
    # A name that is too long for its room goes on below: `truthfulqa_mc2, 6-shot (stand-in: no score)`.
    names = [(name, "") if len(name) <= 18 else tuple(name.partition(", ")[::2]) for name, *_ in rows]
    left = max(left, *(round(5.4 * len(part)) + 12 for pair in names for part in pair), 0)
    height = step * len(rows) + 26

    def x(value: float) -> float:
        return left + (width - left - 14) * value / 100

    parts = [f'<svg class="forest" viewBox="0 0 {width} {height}" role="img" aria-label="{attribute(title)}">']
    for tick in (0, 25, 50, 75, 100):
        parts.append(
            f'<path class="grid" d="M{x(tick):.1f} 4V{height - 20}"/>'
            f'<text x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">{tick}</text>'
        )
    for i, (name, interval, chance, published) in enumerate(rows):
        y = 15 + step * i
        for part, down in zip(names[i], (-1.5, 8.5) if names[i][1] else (3.5, 0.0), strict=True):
            if part:
                parts.append(f'<text class="name" x="{left - 8}" y="{y + down}" text-anchor="end">{text(part)}</text>')
        if chance is not None:
            parts.append(
                f'<path class="cut" d="M{x(100 * chance):.1f} {y - 8}V{y + 8}"><title>guessing: {100 * chance:.1f}</title></path>'
            )
        for j, (model, value) in enumerate(published):
            parts.append(
                f'<circle class="theirs t{j}" cx="{x(value):.1f}" cy="{y}" r="3.5"><title>{text(model)}, published: {value:g}</title></circle>'
            )
        if not math.isnan(interval.value):
            bar = (
                ""
                if math.isnan(interval.low)
                else f'<path class="bar" d="M{x(100 * interval.low):.1f} {y}H{x(100 * interval.high):.1f}"/>'
            )
            said = f"{name}: {100 * interval.value:.1f}"
            parts.append(
                f'{bar}<circle class="dot" cx="{x(100 * interval.value):.1f}" cy="{y}" r="3.5"><title>{text(said)}</title></circle>'
            )
    return "".join([*parts, "</svg>"])


STYLE = """
svg .line{fill:none;stroke:var(--kept);stroke-width:1.6}svg .bar{stroke:var(--kept);stroke-width:1.4}
svg .dot{fill:var(--kept)}svg .band{fill:var(--soft);opacity:.45}
svg .theirs{fill:var(--card);stroke:var(--lost);stroke-width:1.6}svg .theirs.t1{fill:var(--lost)}
svg.forest{max-width:640px}svg text.name{fill:var(--ink);font-size:10.5px}
.wide th,.wide td{white-space:nowrap}.wide td:first-child{overflow-wrap:normal}
i.mark{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:5px;background:var(--kept)}
i.mark.t0{background:var(--card);border:2px solid var(--lost)}i.mark.t1{background:var(--lost)}
td.better{color:var(--gain);font-weight:600}td.worse{color:var(--lost);font-weight:600}td.open{color:var(--dim)}
"""
