"""Does transformers compute from an exported folder what our model computes? Both forward passes hold one layer at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from olmo_core.model.config import ModelRecipe
from olmo_core.model.hugging_face_files import WeightFiles
from olmo_core.model.hugging_face_names import Source
from olmo_core.model.streaming import stream_weights
from olmo_core.model.transformer import Transformer

TOKENS = 64
"""Length of the two rows of random tokens that are compared."""


@torch.no_grad()
def logit_difference(folder: Path, recipe: ModelRecipe, source: Source) -> tuple[float, float]:
    """Return the largest difference between both models' logits and the largest logit, in float32 on the CPU."""
    generator = torch.Generator().manual_seed(0)
    shape = 2, min(TOKENS, recipe.context)
    tokens_BT = torch.randint(0, recipe.vocabulary, shape, generator=generator)
    ours = our_logits(recipe, source, tokens_BT)
    theirs = their_logits(folder, tokens_BT)
    return float((ours - theirs).abs().max()), float(ours.abs().max())


def our_logits(recipe: ModelRecipe, source: Source, tokens_BT: Tensor) -> Tensor:
    """Return our logits, weights streamed from `source`."""
    with torch.device("meta"):
        model = Transformer(recipe)
    parts: list[tuple[str, nn.Module]] = [("embedding", model.embedding), ("norm", model.norm)]
    parts += [(f"blocks.{number}", block) for number, block in enumerate(model.blocks)]
    stream_weights(parts, lambda name: source(name).cpu())
    last = "embedding" if model.output is None else "output"
    hidden = model.hidden(tokens_BT)
    return nn.functional.linear(hidden, source(f"{last}.weight").to(device="cpu", dtype=torch.float32))


def their_logits(folder: Path, tokens_BT: Tensor) -> Tensor:
    """Return the logits of transformers' model, weights streamed from the folder's files."""
    from transformers import AutoConfig, AutoModelForCausalLM

    files = WeightFiles(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        build: Any = AutoModelForCausalLM.from_config
        model = build(config, dtype=torch.float32, trust_remote_code=False)
    model.eval()
    # What is computed from the configuration is no weight and is made on the CPU.
    model.model.rotary_emb = type(model.model.rotary_emb)(config=config)
    parts = [("model.embed_tokens", model.model.embed_tokens), ("model.norm", model.model.norm)]
    parts += [(f"model.layers.{number}", layer) for number, layer in enumerate(model.model.layers)]
    stream_weights(parts, files)
    hidden = model.model(tokens_BT, use_cache=False).last_hidden_state
    last = "model.embed_tokens" if config.tie_word_embeddings else "lm_head"
    return nn.functional.linear(hidden, files(f"{last}.weight").to(torch.float32))
