"""The results for people: a table for the terminal, the same in Markdown, and a bar chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import OURS, STAGES

Row = Mapping[str, Any]
HEADERS = ("stage", "system", "MB", "MB/s of CPU", "MB/s of wall", "ours is", "by wall", "outputs")


def figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def cells(rows: Sequence[Row], sums: Sequence[Row]) -> list[tuple[str, ...]]:
    """The table's cells, without the headers."""
    found = []
    for row in rows:
        name = STAGES.get(row["stage"], "Whole chain")
        ratios = [f"{figure(row[f'{kind}_ratio'])} x" if f"{kind}_ratio" in row else "" for kind in ("cpu", "wall")]
        speeds = [figure(row[f"{kind}_mb_per_s"]) for kind in ("cpu", "wall")]
        found.append((name, row["system"], figure(row["bytes"] / 1e6), *speeds, *ratios, outputs(row)))
    for one in sums:
        speeds = [figure(one[f"{kind}_mb_per_s"]) for kind in ("cpu", "wall")]
        ratios = [f"{figure(one[f'{kind}_ratio'])} x" for kind in ("cpu", "wall")]
        found.append(("Whole chain", f"sum: {one['name']}", "", *speeds, *ratios, "as its stages"))
    return found


def outputs(row: Row) -> str:
    """How far the outputs were compared."""
    if row["system"] == OURS:
        return str(row["agreement"] or "").partition(";")[0]
    if row["compared"] == "no":
        return f"not the same: {row['note']}"
    return str(row["agreement"] or "DIFFER: times do not count").partition(";")[0]


def table(rows: Sequence[Row], sums: Sequence[Row]) -> str:
    """Aligned columns for a terminal."""
    lines = [HEADERS, *cells(rows, sums)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADERS))]
    right = range(2, 7)
    return "\n".join(
        "  ".join(c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    )


def markdown(rows: Sequence[Row], sums: Sequence[Row]) -> str:
    """The same as a Markdown table."""
    lines = [HEADERS, ("---", "---", "--:", "--:", "--:", "--:", "--:", "---"), *cells(rows, sums)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def draw(
    rows: Sequence[Row],
    sums: Sequence[Row],
    path: Path,
    subtitle: str,
    scoring: Sequence[tuple[str, float, bool]] = (),
) -> None:
    """Horizontal bars of MB/s of CPU time, logarithmic, a group for each stage: ours in green, peers in greys.

    `scoring`: names, requests a second of CPU time, and whether it is ours; a panel of its own, as these are other units.
    """
    from matplotlib.figure import Figure

    colours = {OURS: "#0b6e4f", "dolma": "#c8553d", "datatrove": "#e0a458"}
    bars: list[tuple[str, str, float, str]] = []
    for stage in [*STAGES, "chain"]:
        name = STAGES.get(stage, "Whole chain")
        group = [row for row in rows if row["stage"] == stage]
        group = [row for row in group if row["system"] != OURS or row["input"] == "full"]
        bars += [
            (name, r["system"], r["cpu_mb_per_s"], colours.get(r["system"], "#8d99ae"))
            for r in group
            if r["system"] == OURS or "cpu_ratio" in r
        ]
    bars += [("Whole chain", f"sum: {s['name']}", s["cpu_mb_per_s"], "#5c677d") for s in sums]
    heights = [0.27 * len(bars) + 0.22 * len(STAGES) + 1.3] + ([0.3 * len(scoring) + 0.8] if scoring else [])
    figure_ = Figure(figsize=(9, sum(heights)), layout="constrained")
    panels = figure_.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    axes = panels[0]
    place, ticks, before = 0.0, [], ""
    for name, system, value, colour in bars:
        place += 1.0 if name == before else 1.7
        axes.barh(place, value, height=0.85, color=colour)
        axes.text(value * 1.06, place, figure(value), va="center", fontsize=8)
        ticks.append((place, f"{name}: {system}" if name != before else system))
        before = name
    axes.set_yticks([t[0] for t in ticks], [t[1] for t in ticks], fontsize=8)
    axes.set_xscale("log")
    axes.set_xlim(right=2.5 * max(bar[2] for bar in bars))
    axes.set_ylim(place + 1, 0.7)
    axes.set_xlabel("MB of text for a second of CPU time, one core (logarithmic)")
    axes.set_title(subtitle, fontsize=9)
    axes.grid(axis="x", alpha=0.25)
    for below in panels[1:]:
        for at, (_, speed, is_ours) in enumerate(scoring):
            below.barh(at, speed, height=0.8, color=colours[OURS] if is_ours else "#8d99ae")
            below.text(speed * 1.01, at, figure(speed), va="center", fontsize=8)
        below.set_yticks(range(len(scoring)), [f"Scoring: {name}" for name, _, _ in scoring], fontsize=8)
        below.set_xlim(right=1.15 * max(speed for _, speed, _ in scoring))
        below.invert_yaxis()
        below.set_xlabel("requests for a second of CPU time, one core")
        below.grid(axis="x", alpha=0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure_.savefig(path, dpi=150)
