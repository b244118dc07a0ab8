"""Print, as JSON, the accuracies that ai2-olmo's `ICLMetric("pmi_dc")` makes of given log-likelihoods.

    python tests/oracles/evaluation_in_loop_metric.py FOLDER < questions.json      # of an unpacked wheel; needs torch

`questions.json`: by benchmark a list of {"log_likelihood": [...], "unconditional": [...], "gold": index}. Each continuation is
one token whose logits give its log-likelihood.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from evaluation_in_loop import load_tasks


def logits(value: float) -> torch.Tensor:
    """Of one position and three tokens: token 1 has this log-probability."""
    rest = torch.log(-torch.expm1(torch.tensor(value, dtype=torch.float64)) / 2)
    return torch.stack([rest, torch.tensor(value, dtype=torch.float64), rest])[None]


def main() -> None:
    tasks, _ = load_tasks(Path(sys.argv[1]))
    reference = tasks["arc_easy"].__init__.__globals__["ICLMetric"]

    class Metric(reference):  # type: ignore[misc, valid-type]
        """Without torchmetrics, whose part is to gather from several processes."""

        def __init__(self, kind: str) -> None:
            self.metric_type, self.loglikelihoods, self.labels = kind, [], []

    found: dict[str, Any] = {}
    for name, questions in json.load(sys.stdin).items():
        one = Metric("pmi_dc")
        for number, question in enumerate(questions):
            for choice, (value, alone) in enumerate(
                zip(question["log_likelihood"], question["unconditional"], strict=True)
            ):
                batch = {
                    "doc_id": torch.tensor([number]),
                    "cont_id": torch.tensor([choice]),
                    "continuation": torch.tensor([[1]]),
                    "cont_len": torch.tensor([1]),
                    "ctx_len": torch.tensor([1]),
                    "dc_len": torch.tensor([1]),
                    "label_id": torch.tensor([question["gold"]]),
                }
                one.update(batch, logits(value)[None], logits(alone)[None])
        found[name] = float(one.compute())
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
