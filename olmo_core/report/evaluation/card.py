"""The report of evaluations as Markdown for the dashboard, and its curves as a picture."""

from __future__ import annotations

import io
import math

from olmo_core.report import markdown
from olmo_core.report.evaluation import curves, rows
from olmo_core.report.evaluation.facts import Facts
from olmo_core.report.evaluation.published import NOTE, SOURCE

_INK, _SOFT, _CUT = "#0b6e4f", "#9cc9b8", "#5c677d"
_COLUMNS = 8
"""Evaluations side by side in a table of the dashboard; of more the first and the last ones."""


def card(facts: Facts) -> str:
    """Return the report's tables as Markdown."""
    shown = _few(facts)
    parts = [f"# Evaluation {facts.name}\n"]
    if shown is not facts:
        parts.append(
            f"{len(facts.evaluations)} evaluations, of which {len(shown.evaluations)} are shown; the page has all.\n"
        )
    if facts.keys("benchmark"):
        parts += [
            "## Scores\n",
            _table(rows.score_rows(shown)),
            f"### {facts.last.label}\n",
            _table(rows.benchmark_rows(facts.last)),
        ]
        parts.append("Percent; ± is half of the 95% interval. *: primary metric. guess: accuracy of guessing.\n")
    if facts.keys("domains"):
        parts += ["## Bits per byte\n", _table(rows.domain_rows(shown))]
    if facts.changes:
        results = {key: facts.result(key) for one in facts.evaluations for key in one.results}
        latest = [one for one in facts.changes if one.second == facts.last.label]
        parts += [
            "## Changes\n",
            f"The last step of {len(facts.evaluations) - 1}; p-values are corrected for all {len(facts.changes)} comparisons (Holm). "
            "Not resolved does not mean equal: see *detectable*.\n",
            _table(rows.change_rows(latest, results)),
        ]
    if facts.contaminated is not None and (found := rows.contamination_rows(facts)).rows:
        parts += ["## Contamination\n", f"By `{facts.contaminated.artifact}`.\n", _table(found)]
    if (found := rows.published_rows(facts)).rows:
        parts += ["## Published numbers\n", f"{NOTE} From {SOURCE}.\n", _table(found)]
    if (found := rows.counted_rows(facts)).rows:
        parts += ["## Counted, not scored\n", _table(found)]
    return "\n".join(parts)


def _few(facts: Facts) -> Facts:
    every = facts.evaluations
    if len(every) <= _COLUMNS:
        return facts
    return Facts(name=facts.name, evaluations=[every[0], *every[-_COLUMNS + 1 :]], changes=(), curves=())


def _table(found: rows.Table) -> str:
    return markdown.table(found.header, found.rows, left=found.left)


def curves_png(facts: Facts) -> bytes | None:
    """Return the curves of the primary metrics as one PNG; None where there are none to draw."""
    from matplotlib.figure import Figure

    some = [c for c in facts.curves if c.metric == facts.result(c.benchmark).get("primary", "bits_per_byte")]
    if not some:
        return None
    columns = min(3, len(some))
    lines = -(-len(some) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.3 * lines), layout="constrained")
    for i, one in enumerate(some):
        axes = figure.add_subplot(lines, columns, i + 1)
        at, unit = curves.axis(one)
        scale = 1.0 if one.metric == "bits_per_byte" else 100.0
        good = [(a, p) for a, p in zip(at, one.points, strict=True) if not math.isnan(p.value)]
        x, y = [a for a, _ in good], [scale * p.value for _, p in good]
        errors = [
            [0.0 if math.isnan(p.low) else scale * (p.value - p.low) for _, p in good],
            [0.0 if math.isnan(p.high) else scale * (p.high - p.value) for _, p in good],
        ]
        axes.errorbar(
            x, y, yerr=errors, color=_INK, ecolor=_SOFT, marker="o", markersize=3, linewidth=1.3, elinewidth=2
        )
        if one.chance is not None:
            axes.axhline(scale * one.chance, color=_CUT, linestyle="--", linewidth=0.8)
        axes.set_title(rows.title(facts.result(one.benchmark)), fontsize=9)
        axes.set_xlabel(unit, fontsize=7)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
