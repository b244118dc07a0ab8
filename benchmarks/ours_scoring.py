"""Log-likelihoods by our engine, texts in, numbers out; one line of JSON at the end. See `benchmarks.scoring`."""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.peer_protocol import peak_memory
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.language_model import OwnModel
from olmo_core.evaluation.requests import Request, Scored
from olmo_core.model.hugging_face import load_hugging_face


def main() -> None:
    """Read what to do, do it, print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True, help="JSON lines of [context, continuation]")
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--apart", action="store_true", help="share nothing")
    options = parser.parse_args()
    encoder = Encoder(options.model / "tokenizer.json")
    model = OwnModel(load_hugging_face(options.model), "bench")
    pairs = [tuple(json.loads(line)) for line in options.pairs.read_text(encoding="utf-8").splitlines()]
    settings = {"batch_tokens": options.batch_tokens} if options.batch_tokens else {}
    scorer = Scorer(model, share=not options.apart, **settings)

    def score(some: list[tuple[str, str]]) -> list[Scored]:
        texts = sorted({text for pair in some for text in pair})
        ids = dict(zip(texts, map(tuple, encoder.encode(texts)), strict=True))
        return scorer.score([Request(context=ids[context], continuation=ids[text]) for context, text in some])

    score([(context + " ", text) for context, text in pairs[:8]])
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    scores = score(pairs)
    result = {
        "cpu_seconds": time.process_time() - cpu,
        "seconds": time.perf_counter() - wall,
        "requests": len(pairs),
        "tokens": scorer.work.tokens,
        "tokens_unshared": scorer.work.tokens_unshared,
        "log_likelihoods": [one.log_likelihood for one in scores],
        "tokens_of_targets": [one.tokens for one in scores],
        "peak_memory_bytes": peak_memory(),
        "versions": {"python": sys.version.split()[0], "torch": version("torch")},
        "threads": torch.get_num_threads(),
    }
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
