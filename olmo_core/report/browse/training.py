"""Training runs: loss curves as inline SVG, what happened, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError
from olmo_core.report.browse.catalog import Catalog, Entry
from olmo_core.report.browse.shell import Page, tags, when
from olmo_core.report.evaluation.curves import ticks
from olmo_core.report.page.elements import attribute, count, name, table, text
from olmo_core.report.page.plots import short
from olmo_core.report.training import MARKED, Line, last_of, series, smoothed, thinned
from olmo_core.train.run_record import RunRecord

_POINTS = 400
WIDTH, HEIGHT = 480, 250
_LEFT, _RIGHT, _TOP, _BOTTOM, _RATE = 40, 10, 10, 20, 40
CHECKPOINTS = 60
"""Checkpoints that a run's page lists, the last ones."""
EVENTS = 100


@lru_cache(maxsize=64)
def _record(store: ArtifactStore, run: ArtifactRef, finished: tuple[str, str] | None) -> tuple[list[Line], list[Line]]:
    if finished is not None:
        return tuple(_lines(store, path) for path in finished)  # type: ignore[return-value]
    record = RunRecord(store=store, run=run)
    record.refresh()
    return record.steps, list(record.events.values())


def _lines(store: ArtifactStore, path: str) -> list[Line]:
    if not path:
        return []
    try:
        return [json.loads(line) for line in store.storage.read(path).splitlines()]
    except ValueError as error:
        raise IntegrityError(f"{path} is not JSON lines: {error}; `olmo artifacts verify` looks into it") from error


def record(catalog: Catalog, run: ArtifactRef) -> tuple[list[Line], list[Line]]:
    """Return the lines of a run's curve, and its events."""
    entry = catalog.entries.get(run)
    if entry is None:
        return _record(catalog.store, run, None)
    paths = {one.key: one.path for one in entry.first_objects}
    return _record(catalog.store, run, (paths.get("curve.jsonl", ""), paths.get("events.jsonl", "")))


def draw(
    steps: Sequence[Line], events: Sequence[Line] = (), *, title: str = "loss over steps", small: bool = False
) -> str:
    """Return the loss over the steps as SVG: training, smoothed, held out; below, the learning rate. Nothing without a loss.

    What lies above the visible part is a triangle at its upper edge that tells the value.
    """
    at, loss = series(steps, "loss")
    if not len(at):
        return ""
    held_at, held = series(steps, "held_out_loss")
    width, height, left = (300, 90, 30) if small else (WIDTH, HEIGHT, _LEFT)
    below = 0 if small else _RATE
    x0, x1 = 0.0, float(max(at[-1], 1))
    low, high = _range(loss, held)

    def x(value: float) -> float:
        return left + (width - left - _RIGHT) * (value - x0) / (x1 - x0)

    def y(value: float) -> float:
        return _TOP + (height - _TOP - _BOTTOM - below) * (1 - (min(value, high) - low) / (high - low))

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{attribute(title)}">']
    for tick in ticks(low, high, 2 if small else 5):
        parts.append(
            f'<path class="grid" d="M{left} {y(tick):.1f}H{width - _RIGHT}"/>'
            f'<text x="{left - 4}" y="{y(tick) + 3.5:.1f}" text-anchor="end">{short(tick)}</text>'
        )
    for tick in ticks(x0, x1, 3 if small else 6):
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">{short(tick)}</text>')
    fine_at, fine = thinned(at, loss, _POINTS)
    if not small:
        parts.append(_path("pale", [(x(a), y(v)) for a, v in zip(fine_at, fine, strict=True)]))
    parts.append(_path("line", [(x(a), y(v)) for a, v in zip(fine_at, smoothed(fine), strict=True)]))
    over = np.flatnonzero(loss > high)
    if len(over):
        top = over[np.argmax(loss[over])]
        said = (
            f"training, step {int(at[top]):,}: {float(loss[top]):.3f}, the highest of {len(over):,} above what is drawn"
        )
        parts.append(_above("over", x(float(at[top])), said, wide=7))
    points = [(x(float(a)), y(float(v))) for a, v in zip(held_at, held, strict=True)]
    if points:
        parts.append(_path("held", points))
        for left_over, ((px, py), a, v) in enumerate(zip(points, held_at, held, strict=True), 50 - len(points)):
            if left_over < 0 and v <= high:
                continue
            said = f"held out, step {int(a):,}: {float(v):.3f}"
            if v > high:
                parts.append(_above("helddot", px, f"{said}, above what is drawn"))
                continue
            parts.append(
                f'<circle class="helddot" cx="{px:.1f}" cy="{py:.1f}" r="3"><title>{attribute(said)}</title></circle>'
            )
    if not small:
        parts += _rate(steps, x, width, height)
        for event in events[:EVENTS]:
            label = MARKED.get(str(event.get("kind")))
            if label and isinstance(event.get("step"), int):
                place = x(min(float(event["step"]), x1))
                parts.append(
                    f'<path class="event" d="M{place:.1f} {_TOP}V{height - _BOTTOM - below}"><title>{attribute(label)}, step {event["step"]:,}</title></path>'
                )
    return "".join([*parts, "</svg>"])


def _above(kind: str, x: float, said: str, wide: int = 4) -> str:
    """A triangle that points out of the picture, to `wide` pixels on both sides: one may stand on another."""
    corners = f"M{x - wide:.1f} {_TOP - 1}L{x:.1f} {_TOP - 2 - wide}L{x + wide:.1f} {_TOP - 1}Z"
    return f'<path class="{kind}" d="{corners}"><title>{attribute(said)}</title></path>'


def cut_off(steps: Sequence[Line]) -> str:
    """Return in words what lies above the visible part of the curve; nothing where all is drawn."""
    loss, held = series(steps, "loss")[1], series(steps, "held_out_loss")[1]
    if not len(loss):
        return ""
    high = _range(loss, held)[1]
    over = [(what, some[some > high]) for what, some in (("training", loss), ("held out", held))]
    told = [f"{len(some):,} {what} (highest {some.max():.2f})" for what, some in over if len(some)]
    return f"drawn up to {high:.2f}; above it, marked by triangles: {', '.join(told)}" if told else ""


def _range(loss: npt.NDArray[np.float64], held: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The visible part: the steep first steps are cut off where much lies below them."""
    low = float(min(loss.min(), held.min())) if len(held) else float(loss.min())
    top = float(max(loss.max(), held.max())) if len(held) else float(loss.max())
    high = min(top, low + 1.5 * (float(np.quantile(loss, 0.95)) - low))
    if high <= low:
        return low - 0.5, low + 0.5
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


def _rate(steps: Sequence[Line], x: Any, width: int, height: int) -> list[str]:
    at, rate = series(steps, "learning_rate")
    if not len(at) or rate.max() <= 0:
        return []
    at_, rate_ = thinned(at, rate, _POINTS)
    bottom, top = height - _BOTTOM, height - _BOTTOM - _RATE + 14
    points = [(x(a), bottom - (bottom - top) * v / float(rate_.max())) for a, v in zip(at_, rate_, strict=True)]
    return [
        f'<path class="axis" d="M{_LEFT} {bottom}H{width - _RIGHT}"/>',
        f'<text x="{_LEFT - 4}" y="{top + 4}" text-anchor="end">{float(rate_.max()):.0e}</text>',
        _path("rate", points),
    ]


def _path(kind: str, points: Sequence[tuple[float, float]]) -> str:
    return f'<path class="{kind}" d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in points)}"/>'


def checkpoints_of(catalog: Catalog, run: ArtifactRef) -> list[Entry]:
    """Return the checkpoints of a run that the store has, by step."""
    own = [one for one in catalog.kind(Kind.CHECKPOINT) if str(one.recipe.get("run", ""))[:12] == run.fingerprint[:12]]
    return sorted(own, key=lambda one: int(one.recipe.get("step", 0)))


def body(page: Page, run: ArtifactRef) -> None:
    """Add the sections of a run: curve, checkpoints, events."""
    steps, events = record(page.catalog, run)
    curve = draw(steps, events)
    if curve:
        over = cut_off(steps)
        above = f"<span>{text(over)}</span>" if over else ""
        key = f'<p class="key"><span>line: training loss, smoothed (pale: as it was)</span><span style="color:var(--lost)">dots: held out</span><span>below: learning rate</span>{above}</p>\n'
        figures = _figures(page.catalog.entries.get(run), steps)
        page.add("curve", "Loss", f"{figures}<figure class=loss>{curve}</figure>\n{key}")
    page.add("checkpoints", "Checkpoints", _checkpoints(page, run))
    told = [
        (f"{int(e.get('step') or 0):,}", text(e.get("kind", "")), text(e.get("message", ""))) for e in events[-EVENTS:]
    ]
    page.add("events", "What happened", table(("step", "kind", ""), told, left=3, kind="told") if told else "")


def _figures(entry: Entry | None, steps: Sequence[Line]) -> str:
    counts: Mapping[str, Any] = entry.counts if entry else {}
    loss, held = last_of(steps, "loss"), last_of(steps, "held_out_loss")
    rows = [
        ("loss", f"{loss:.3f}" if loss is not None else "none"),
        ("held-out loss", f"{held:.3f}" if held is not None else "none"),
    ]
    if entry is not None:
        rows += [("steps", f"{int(counts.get('steps', 0)):,}"), ("tokens", count(float(counts.get("tokens", 0))))]
    if counts.get("energy_kwh") is not None:
        rows.append(("energy", f"{counts['energy_kwh']:.4g} kWh"))
    if counts.get("co2_kg") is not None:
        rows.append(("carbon", f"{counts['co2_kg']:.3g} kg CO2e"))
    return table(tuple(title for title, _ in rows), [tuple(text(value) for _, value in rows)], left=0)


def _checkpoints(page: Page, run: ArtifactRef) -> str:
    every = checkpoints_of(page.catalog, run)
    rows = [
        (
            page.artifact(one.ref, f"step {int(one.recipe.get('step', 0)):,}"),
            count(float(one.counts.get("tokens", 0))),
            when(one.ended),
            _evaluated(page, one),
            tags(one.tags),
        )
        for one in every[-CHECKPOINTS:]
    ]
    more = f"<p>The last {CHECKPOINTS} of {len(every):,}.</p>\n" if len(every) > CHECKPOINTS else ""
    header = ("checkpoint", "tokens", "saved (UTC)", "evaluations", "tags")
    return more + table(header, rows, left=1) if rows else ""


def _evaluated(page: Page, checkpoint: Entry) -> str:
    found = [ref for ref in page.catalog.below.get(checkpoint.ref, ()) if ref.kind == Kind.EVALUATION]
    return ", ".join(page.artifact(ref, ref.name) for ref in found[:3])


def cards(page: Page, most: int) -> str:
    """Return runs as boxes with a small curve, those under way first."""
    catalog = page.catalog
    runs = [*catalog.under_way, *(one.ref for one in catalog.kind(Kind.RUN))][:most]
    return f'<div class="cards">{"".join(_card(page, run) for run in runs)}</div>\n' if runs else ""


def path_of(catalog: Catalog, run: ArtifactRef) -> str:
    """Return where a run's page is: those under way have one, too."""
    return catalog.page(run) or (f"{run.address}.html" if run in catalog.under_way else "")


def _card(page: Page, run: ArtifactRef) -> str:
    entry = page.catalog.entries.get(run)
    steps, _ = record(page.catalog, run)
    held, loss = last_of(steps, "held_out_loss"), last_of(steps, "loss")
    numbers = [f"loss {loss:.3f}" if loss is not None else "", f"held out {held:.3f}" if held is not None else ""]
    state = (
        f"{int(entry.counts.get('steps', 0)):,} steps, {when(entry.ended)} UTC"
        if entry
        else "<b>under way</b>, or cut off"
    )
    if entry is None and steps:
        state += f": step {int(steps[-1]['step']):,}"
    lines = [
        f"<b>{page.a(path_of(page.catalog, run), name(run.name))}</b> {tags(entry.tags, 3) if entry else ''}",
        ", ".join(one for one in numbers if one),
        f'<span class="dim">{state}</span>',
    ]
    return f'<div class="card">{"".join(f"<p>{line}</p>" for line in lines if line)}{draw(steps, title=f"loss of {run.name}", small=True)}</div>'


def page_of(catalog: Catalog) -> Page:
    """Return the page with all runs."""
    page = Page(catalog=catalog, path="runs.html", title="Training runs", small="Loss curves")
    found = len(catalog.under_way) + len(catalog.kind(Kind.RUN))
    most = catalog.limits.listed
    rest = (
        f"<p>{found - most:,} older ones are in {page.a('run.html', 'the list of runs')}.</p>\n" if found > most else ""
    )
    page.add(
        "runs",
        "Newest first",
        (cards(page, most) + rest) or "<p>Nothing was trained yet: <code>olmo run train-olmo</code>.</p>\n",
    )
    return page


def under_way(catalog: Catalog, run: ArtifactRef) -> Page:
    """Return the page of a run that has not ended."""
    page = Page(
        catalog=catalog,
        path=f"{run.address}.html",
        title=run.address,
        small="Run under way, or cut off",
        place="runs.html",
    )
    page.crumbs = (("Runs", "runs.html"),)
    page.lead = (
        '<p class="note">This run has no manifest yet: it goes on, or was cut off and can be taken up again.</p>\n'
    )
    body(page, run)
    if not page.sections:
        page.add("nothing", "Nothing yet", "<p>No step was recorded yet.</p>\n")
    return page
