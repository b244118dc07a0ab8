"""Training steps of transformers' OlmoForCausalLM with torch's AdamW, as its users write them; one line of JSON at the end.

Standard: forward with labels, backward, clip_grad_norm_, step, zero_grad. Weights and batches are given, so that losses
can be compared before times count.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from peer_protocol import peak_memory
from transformers import AutoModelForCausalLM


def main() -> None:
    """Read what to do, do it, print the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True, help="folder in Hugging Face's layout, float32")
    parser.add_argument("--batches", type=Path, required=True, help=".npy, steps x instances x tokens")
    parser.add_argument("--warm-up", type=int, required=True)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), required=True)
    options = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).train()
    model.config.use_cache = False
    tables = {id(model.get_input_embeddings().weight)}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in tables], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if id(p) in tables], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=4e-4, betas=(0.9, 0.95), eps=1e-5, fused=True)
    batches = torch.from_numpy(np.load(options.batches).astype(np.int64))
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    losses, seconds, cpu_seconds = [], [], []
    for tokens in batches:
        began, cpu = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        del loss
        seconds.append(time.perf_counter() - began)
        cpu_seconds.append(time.process_time() - cpu)
    result = {
        "losses": losses,
        "step_seconds": statistics.median(seconds[options.warm_up :]),
        "step_cpu_seconds": statistics.median(cpu_seconds[options.warm_up :]),
        "peak_memory_bytes": peak_memory(),
        "versions": {"python": sys.version.split()[0], **{name: version(name) for name in ("torch", "transformers")}},
    }
    print("\n" + json.dumps(result))


if __name__ == "__main__":
    main()
