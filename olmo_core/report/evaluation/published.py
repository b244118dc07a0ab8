"""Numbers that others published, to be shown beside ours and never mixed with them.

Groeneveld et al. 2024, "OLMo: Accelerating the Science of Language Models" (arXiv 2402.00838), section 4, as the model card of
allenai/OLMo-7B gives them (section "Evaluation", both tables; read there, digit by digit). Made with Catwalk, 0-shot unless stated, and
most likely at most 1,000 items of a benchmark (`rc20_tasks`: seed 1234), which neither says. Percent.

Checked again on 2026-11-27 against others' copies: the 7B's by a `model-index` made from that card, GSM8K by the table in the card of
allenai/OLMo-2-1124-7B (commit cb5ef38), the 1B's by whatmodel.sh, which has eight of the nine to one decimal; its COPA follows from
the average. The card's "full average" of the 7B, 59.8, is not the mean of its twelve numbers, 59.73; it is not shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "arXiv 2402.00838 and the model card of allenai/OLMo-7B"
NOTE = (
    "Published, not measured here: Catwalk, 0-shot (MMLU 5-shot, GSM8K 8-shot), most likely at most 1,000 items of a benchmark; "
    "another set of items than ours unless the recipe says `limit: 1000`. No intervals were published."
)


@dataclass(frozen=True, kw_only=True)
class Published:
    """One model's column of a published table."""

    model: str
    tokens: str
    scores: Mapping[str, float]
    average: float
    """Of the nine core benchmarks, as published."""


MODELS = (
    Published(
        model="OLMo 1B",
        tokens="3 T tokens",
        scores={
            "arc_challenge": 34.45,
            "arc_easy": 58.07,
            "boolq": 60.7,
            "copa": 79.0,
            "hellaswag": 62.5,
            "openbookqa": 46.4,
            "piqa": 73.7,
            "sciq": 88.1,
            "winogrande": 58.9,
        },
        average=62.42,
    ),
    Published(
        model="OLMo 7B",
        tokens="2.46 T tokens",
        scores={
            "arc_challenge": 48.5,
            "arc_easy": 65.4,
            "boolq": 73.4,
            "copa": 90.0,
            "hellaswag": 76.4,
            "openbookqa": 50.2,
            "piqa": 78.4,
            "sciq": 93.8,
            "winogrande": 67.9,
            "truthfulqa_mc2": 36.0,
            "mmlu": 28.3,
            "gsm8k": 8.5,
        },
        average=71.6,
    ),
)
