"""The page about a classifier: held-out figures with intervals, confusion, and what each threshold would flag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from olmo_core.report import markdown


def page(name: str, metrics: Mapping[str, Any]) -> str:
    """Return the metrics that `classifier.train` gives, as Markdown."""
    held = metrics["held_out"]
    rows = [
        (title, held[key]["value"], f"{held[key]['low']:.3f} to {held[key]['high']:.3f}")
        for title, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
    ]
    confusion = held["confusion"]
    thresholds = [
        (f"{t['threshold']:g}", t["precision"], t["recall"], t["f1"], f"{t['flagged']:.1%}") for t in held["thresholds"]
    ]
    training = metrics["training"]
    parts = [
        f"# Classifier {name}\n",
        f"Held out: {held['examples']:,} examples, {held['positives']:,} positive, at threshold {held['threshold']:g}. "
        f"Trained on {training['examples']:,} examples and {training['background']:,} background sentences.\n",
        markdown.table(("figure", "value", "95% interval"), rows),
        f"Average precision {held['average_precision']:.3f}; F1 of the negative label {held['negative_f1']:.3f}; calling everything positive would give F1 {held['always_f1']:.3f}.\n",
        markdown.table(
            ("", "called positive", "called negative"),
            [
                ("positive", confusion["true_positive"], confusion["false_negative"]),
                ("negative", confusion["false_positive"], confusion["true_negative"]),
            ],
        ),
        "## Thresholds\n",
        markdown.table(("threshold", "precision", "recall", "F1", "flagged"), thresholds),
    ]
    flagged = metrics["background"]["flagged"]
    if metrics["background"]["sentences"]:
        parts += [
            f"Held-out background sentences ({metrics['background']['sentences']:,}) taken for positive, by threshold:\n",
            markdown.table(("threshold", "flagged"), [(t, f"{share:.2%}") for t, share in flagged.items()]),
        ]
    return "\n".join(parts)
