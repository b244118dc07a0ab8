"""Log-likelihoods by lm-eval's `hf` model, as its tasks ask for them; one line of JSON at the end. See `benchmarks.scoring`.

Runs in lm-eval's environment.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from peer_protocol import peak_memory
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast


def main() -> None:
    """Read what to do, do it, print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True, help="JSON lines of [context, continuation]")
    parser.add_argument("--batch", type=int, required=True)
    options = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    fast = PreTrainedTokenizerFast(tokenizer_file=str(options.model / "tokenizer.json"), eos_token="<|endoftext|>")
    lm = HFLM(pretrained=model, tokenizer=fast, batch_size=options.batch, device="cpu")
    pairs = [tuple(json.loads(line)) for line in options.pairs.read_text(encoding="utf-8").splitlines()]

    def score(some: list[tuple[str, str]]) -> list[tuple[float, bool]]:
        asked = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(some)]
        return lm.loglikelihood(asked, disable_tqdm=True)

    score([(context + " ", text) for context, text in pairs[:8]])
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    scores = score(pairs)
    result = {
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - wall,
        "requests": len(pairs),
        "log_likelihoods": [float(value) for value, _ in scores],
        "peak_memory_bytes": peak_memory(),
        "versions": {
            "python": sys.version.split()[0],
            **{name: version(name) for name in ("lm_eval", "torch", "transformers")},
        },
        "threads": torch.get_num_threads(),
    }
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
