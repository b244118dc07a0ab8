"""The report of an ablation as Markdown for the dashboard, and as text for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from olmo_core.ablation.compare import BITS, Effect
from olmo_core.ablation.facts import AblationFacts
from olmo_core.report import markdown
from olmo_core.report.evaluation.rows import Table
from olmo_core.summary import costs
from olmo_core.summary.text import plain

HOW = (
    "Difference: variant minus the first one, on the same texts; of bits per byte less is better. The interval (95%) holds chance in the "
    "texts (documents resampled) and in training (Student's, over the seeds). p: of the texts, corrected for all comparisons "
    "(Holm). Better or worse: p below 0.05 and the interval without zero; not resolved does not mean equal."
)


def effect_rows(effects: Sequence[Effect]) -> Table:
    """Return the table of differences."""
    made = []
    for one in effects:
        scale, digits = (1.0, 4) if one.metric == BITS else (100.0, 1)
        made.append(
            (
                one.measure,
                one.variant,
                f"{scale * one.reference:.{digits}f}",
                f"{scale * one.both.value:+.{digits}f}",
                _span(one.both.low, one.both.high, scale, digits),
                _span(one.texts.low, one.texts.high, scale, digits),
                ", ".join(f"{scale * seed:+.{digits}f}" for seed in one.seeds),
                "–" if math.isnan(one.p) else f"{one.p:.3f}" if one.p >= 0.001 else "<0.001",
                one.verdict,
            )
        )
    header = (
        "measured on",
        "variant",
        "first",
        "difference",
        "95% interval",
        "of texts alone",
        "of each seed",
        "p (Holm)",
        "verdict",
    )
    return Table(header, made, left=2)


def _span(low: float, high: float, scale: float, digits: int) -> str:
    return "–" if math.isnan(low) else f"{scale * low:+.{digits}f} to {scale * high:+.{digits}f}"


def variant_rows(facts: AblationFacts) -> Table:
    """Return what each variant is and what it took."""
    made = []
    for one in facts.variants:
        spent = costs.total(one.costs)
        made.append(
            (
                one.name,
                f"{one.documents:,}",
                markdown.size(one.text_bytes),
                markdown.count(one.tokens),
                f"{one.epochs:.2f}",
                f"{one.own} of {one.stages}",
                f"{spent.cpu_hours:.3f}",
                f"{spent.gpu_hours:.3f}",
                *costs.shown(spent, facts.prices),
            )
        )
    header = (
        "variant",
        "documents",
        "text",
        "tokens",
        "epochs",
        "own stages",
        "CPU-hours",
        "GPU-hours",
        "energy",
        "cost",
    )
    return Table(header, made)


def notes(facts: AblationFacts) -> list[str]:
    """Return what is to be known of the tables."""
    said = [
        f"{len(facts.variants)} corpora of {facts.stages} different stages, of which {facts.shared} are used by several and were built "
        f"once ({facts.common.cpu_hours:.3f} CPU-hours, in no variant's cost).",
        f"Each model has seen {facts.variants[0].trained:,} tokens; seeds {', '.join(map(str, facts.seeds))}.",
        HOW,
        costs.stated(facts.prices),
    ]
    if len(facts.seeds) < 2:
        said.insert(2, "One seed: nothing is known of chance in training, so nothing is resolved.")
    return said


def terminal(facts: AblationFacts) -> str:
    """Return the report as text."""
    parts = [f"ablate-data {facts.name}", "", *plain(effect_rows(facts.effects)), "", *plain(variant_rows(facts)), ""]
    return "\n".join([*parts, *notes(facts)]) + "\n"


def card(facts: AblationFacts) -> str:
    """Return the report as Markdown."""
    found, variants = effect_rows(facts.effects), variant_rows(facts)
    parts = [f"# Ablation {facts.name}\n", "## Differences\n", markdown.table(found.header, found.rows, left=2)]
    parts += ["## Variants\n", markdown.table(variants.header, variants.rows)]
    for one in facts.variants:
        changed = [f"{path} = {value}" for path, value in one.changes.get("changes", {}).items()]
        changed += [f"without the rule {name}" for name in one.changes.get("without", ())]
        parts.append(f"- **{one.name}**: {'; '.join(changed) or 'the base recipe as it is'}")
    return "\n".join([*parts, "", *[f"{note}\n" for note in notes(facts)]])
