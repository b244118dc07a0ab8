"""Train the small model of the comparison with lm-eval on real text, and store what was trained (under 300 kB).

    python tests/oracles/evaluation_train.py --tokenizer tokenizer.json --steps 400 TEXT ...

Plain transformers, 20 minutes on a core. Not bit for bit the same on another machine, so what it made is committed, and
every golden number hangs on that. WikiText-2's validation and test files were the text.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import tokenizers
import torch
from evaluation_models import CONFIG, EMBEDDING, ROWS, TRAINED, drawn
from safetensors.numpy import save_file
from transformers import OlmoConfig, OlmoForCausalLM

TOKENS = 1200
"""Of which the embeddings are trained."""
BATCH, LENGTH = 8, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    encode = tokenizers.Tokenizer.from_file(str(options.tokenizer)).encode
    ids = [i for path in options.texts for i in encode(path.read_text(encoding="utf-8"), add_special_tokens=False).ids]
    rows = np.array(sorted(token for token, _ in Counter(ids).most_common(TOKENS)))
    stream = torch.tensor(ids)
    model = OlmoForCausalLM(OlmoConfig(**CONFIG))
    start = {name: torch.from_numpy(value) for name, value in drawn(1, embedding=0.02, matrix=0.1).items()}
    model.load_state_dict(start, strict=False)
    mine = torch.zeros(CONFIG["vocab_size"], 1)
    mine[rows] = 1.0
    model.get_input_embeddings().weight.register_hook(lambda gradient: gradient * mine)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0, betas=(0.9, 0.95))
    generator = torch.Generator().manual_seed(0)
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = 4e-3 * min(1.0, (step + 1) / 40) * (1.0 - 0.9 * step / options.steps)
        at = torch.randint(0, len(stream) - LENGTH, (BATCH,), generator=generator)
        batch = torch.stack([stream[i : i + LENGTH] for i in at.tolist()])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step == options.steps - 1:
            print(step, round(float(loss), 3), flush=True)
    state = {name: value.detach().numpy() for name, value in model.named_parameters()}
    kept = {name: value.astype(np.float16) for name, value in state.items() if name != EMBEDDING}
    save_file({**kept, EMBEDDING: state[EMBEDDING][rows].astype(np.float16), ROWS: rows.astype(np.int64)}, TRAINED)
    print(f"{TRAINED}: {TRAINED.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
