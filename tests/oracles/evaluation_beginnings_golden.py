"""Write the golden file of what lm-eval 0.4.13 makes of the models of `evaluation_beginnings.py`. In its own environment (half a minute):

    python -m venv LM && LM/bin/pip install -r tests/oracles/lm-eval-requirements.txt
    LM/bin/python tests/oracles/evaluation_beginnings_golden.py tests/evaluation/golden/lm_eval_beginnings.json

Its own tokenization, batches and sums, with transformers' own tokenizer of each folder. Rolling log-likelihoods twice: as it does
by itself (`rolling`), and with `add_bos_token=False` (`rolling_bare`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TQDM_DISABLE="1")

import evaluation_beginnings as asked
import numpy as np
import tokenizers
import torch
import transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

BATCH = 4


def token_hash(*ids: list[int]) -> str:
    return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]


class Recording(HFLM):  # type: ignore[misc]
    """Keeps what was asked in token ids."""

    def _loglikelihood_tokens(self, requests: Any, *arguments: Any, **options: Any) -> Any:
        self.asked = [(context, target) for _, context, target in requests]
        return super()._loglikelihood_tokens(requests, *arguments, **options)


def instances(kind: str, given: Any) -> list[Instance]:
    return [Instance(kind, {}, one, i) for i, one in enumerate(given)]


def language_model(folder: Path, **options: Any) -> Recording:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return Recording(pretrained=model, tokenizer=tokenizer, batch_size=BATCH, device="cpu", **options)


def answers(folder: Path) -> dict[str, Any]:
    lm, bare = language_model(folder), language_model(folder, add_bos_token=False)
    scored = lm.loglikelihood(instances("loglikelihood", asked.PAIRS))
    pairs = [
        {"tokens": token_hash(context, target), "first": context[0], "log_likelihood": value, "greedy": greedy}
        for (context, target), (value, greedy) in zip(lm.asked, scored, strict=True)
    ]
    texts = [(text,) for text in asked.DOCUMENTS.values()]
    options = {"until": list(asked.STOP), "max_gen_toks": asked.MOST, "do_sample": False}
    return {
        "tokenizer": type(lm.tokenizer).__name__,
        "prefix": lm.prefix_token_id,
        "pairs": pairs,
        "rolling": lm.loglikelihood_rolling(instances("loglikelihood_rolling", texts)),
        "rolling_bare": bare.loglikelihood_rolling(instances("loglikelihood_rolling", texts)),
        "document_tokens": [len(bare.tok_encode(text)) for (text,) in texts],
        "generated": lm.generate_until(instances("generate_until", [(one, options) for one in asked.PROMPTS])),
    }


def main() -> None:
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as work:
        found = {kind: answers(asked.write(Path(work) / kind, kind)) for kind in asked.KINDS}
    libraries = {one.__name__: one.__version__ for one in (np, torch, transformers, tokenizers)}
    golden = {"versions": {"lm-eval": "0.4.13", **libraries}, "kinds": found}
    Path(sys.argv[1]).write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
