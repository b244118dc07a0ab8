"""The summary of a chain as Markdown for the dashboard, and as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from olmo_core.report import markdown
from olmo_core.report.evaluation import rows
from olmo_core.report.evaluation.rows import Table
from olmo_core.report.training import last_of, series
from olmo_core.summary import costs
from olmo_core.summary.facts import SummaryFacts

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDE = 60
"""Characters of the curve."""
_REASONS = 3
"""Reasons for dropping that a stage's line names."""
_KEPT_COLUMNS = (0, 2, 3, 4, 6, 7)
"""Columns of the benchmark table that fit into 80 characters, and beside the dashboard's side column."""


def sparkline(values: Sequence[float], width: int = _WIDE) -> str:
    """Return numbers as one line of blocks, the highest for the largest; of many, the means of `width` equal parts."""
    found = np.array([one for one in values if np.isfinite(one)], np.float64)
    if not len(found):
        return ""
    if len(found) > width:
        edges = np.linspace(0, len(found), width + 1).astype(int)
        found = np.array([found[a:b].mean() for a, b in zip(edges, edges[1:], strict=False)])
    low, high = float(found.min()), float(found.max())
    places = (found - low) / (high - low) * (len(_BLOCKS) - 1) if high > low else np.zeros(len(found))
    return "".join(_BLOCKS[round(float(one))] for one in places)


def waterfall_rows(facts: SummaryFacts) -> Table:
    """Return the waterfall in short: each stage and source with what came in, what was kept and the main reasons."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for line in facts.lines:
        one = found.setdefault((line.stage, line.source), {"lost": []})
        if line.what in ("in", "kept"):
            one[line.what] = line
        elif line.documents:
            one["lost"].append(
                (line.documents, f"{line.what.removeprefix('quarantined: ')} {line.sign}{line.documents:,}")
            )
    made = []
    for (stage, source), one in found.items():
        came, kept = one.get("in"), one.get("kept")
        if kept is None:
            continue
        lost = [text for _, text in sorted(one["lost"], reverse=True)]
        why = ", ".join(lost[:_REASONS]) + (f", {len(lost) - _REASONS} more" if len(lost) > _REASONS else "")
        exact = "" if stage == "packing" else "~"
        made.append(
            (
                f"{stage}/{source}",
                f"{came.documents:,}" if came else "",
                f"{kept.documents:,}",
                markdown.size(kept.bytes),
                f"{exact}{markdown.count(kept.tokens)}",
                why,
            )
        )
    return Table(("stage", "documents in", "kept", "text", "tokens", "dropped"), made)


def losses(facts: SummaryFacts) -> list[str]:
    """Return the curve as a line of blocks and the last losses, in nats per token."""
    at, loss = series(facts.steps, "loss")
    if not len(loss):
        return ["no step has a loss"]
    head = f"loss {loss[0]:.2f} {sparkline(loss.tolist())} {float(np.mean(loss[-max(1, len(loss) // 50) :])):.3f}"
    told = [head, f"{int(at[-1]):,} steps, {int(facts.run.counts.get('tokens', 0)):,} tokens"]
    held_out = last_of(facts.steps, "held_out_loss")
    told[-1] += f"; held-out loss {held_out:.3f} nats per token" if held_out is not None else "; no held-out tokens"
    return told


def tables(facts: SummaryFacts) -> list[tuple[str, Table]]:
    """Return the evaluation's tables with their titles."""
    found = []
    if facts.evaluation.keys("benchmark"):
        whole = rows.benchmark_rows(facts.evaluation.last)
        short = [[row[i] for i in _KEPT_COLUMNS] for row in whole.rows]
        found.append(("benchmarks, percent", Table([whole.header[i] for i in _KEPT_COLUMNS], short)))
    if facts.evaluation.keys("domains"):
        found.append(("bits per byte of held-out text, ± half of the 95% interval", rows.domain_rows(facts.evaluation)))
    return found


def plain(found: Table) -> list[str]:
    """Return a table's lines for a terminal: names and reasons to the left, numbers to the right."""
    cells = [list(found.header), *[list(row) for row in found.rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(found.header))]
    worded = [i < found.left or any(c.isalpha() for row in found.rows for c in row[i][:1]) for i in range(len(widths))]
    return [
        "  ".join(v.ljust(w) if left else v.rjust(w) for v, w, left in zip(row, widths, worded, strict=True)).rstrip()
        for row in cells
    ]


def commands(facts: SummaryFacts) -> list[str]:
    """Return how to look closer."""
    evaluation = facts.evaluation.last.manifest.ref
    return [
        f"olmo report {facts.corpus} --open",
        f"olmo generate checkpoint/{facts.checkpoint.ref.name}/{facts.checkpoint.ref.fingerprint[:12]} --prompt TEXT",
        f"olmo report evaluation {evaluation.name} --open",
        f"olmo artifacts lineage {evaluation}",
    ]


def terminal(facts: SummaryFacts) -> str:
    """Return the summary as text."""
    parts = [f"data-to-model {facts.name}: corpus {facts.corpus}, model {facts.run.ref.name}", ""]
    parts += [f"NOTE: {note}" for note in facts.notes] + ([""] if facts.notes else [])
    parts += [*plain(waterfall_rows(facts)), "", *losses(facts), ""]
    for title, table in tables(facts):
        parts += [title, *plain(table), ""]
    text = " ".join(f"{facts.part.prompt}{facts.sample}".split())
    parts += [f"sample at temperature {facts.part.temperature:g}", *_wrapped(text), ""]
    parts += [*plain(Table(costs.HEADER, costs.rows(facts.costs, facts.prices))), costs.stated(facts.prices), ""]
    parts += ["lineage", *[f"  {link.artifact}  {link.about}" for link in facts.lineage], ""]
    return "\n".join([*parts, *[f"$ {command}" for command in commands(facts)]]) + "\n"


def card(facts: SummaryFacts) -> str:
    """Return the summary as Markdown, without links to runs, which only who publishes it knows."""
    waterfall = waterfall_rows(facts)
    parts = [f"# {facts.name}: from data to model\n", f"Corpus `{facts.corpus}`, model `{facts.run.ref.name}`.\n"]
    parts += [f"**Note:** {note}\n" for note in facts.notes]
    parts += ["## Waterfall\n", markdown.table(waterfall.header, waterfall.rows)]
    parts += ["## Loss\n", "```\n" + "\n".join(losses(facts)) + "\n```\n"]
    for title, table in tables(facts):
        parts += [f"## {title[:1].upper()}{title[1:]}\n", markdown.table(table.header, table.rows, left=table.left)]
    text = f"{facts.part.prompt}{facts.sample}".replace("```", "'''")
    parts += [f"## Sample\n\nTemperature {facts.part.temperature:g}:\n", f"```\n{text}\n```\n"]
    parts += [
        "## Cost\n",
        markdown.table(costs.HEADER, costs.rows(facts.costs, facts.prices)),
        costs.stated(facts.prices) + "\n",
    ]
    parts += [
        "## Lineage\n",
        markdown.table(("artifact", ""), [(f"`{one.artifact}`", one.about) for one in facts.lineage], left=2),
    ]
    return "\n".join([*parts, "## Look closer\n", "```\n" + "\n".join(commands(facts)) + "\n```\n"])


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, 102, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    ) or ["  "]
