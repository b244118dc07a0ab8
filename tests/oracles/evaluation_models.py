"""The two models of the comparison with lm-eval: one of random weights, one trained; the same numbers in every environment.

OLMo's shape (`OlmoForCausalLM`) and tokenizer, small. Random weights come from numpy's PCG64, so that none are
committed. Of the trained one the matrices and the embeddings of the tokens that occur most are committed, as float16;
those of the other tokens stay as they were drawn.
Imports numpy and safetensors only: used by the tests, and by scripts in lm-eval's environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CONTEXT = 384
CONFIG: dict[str, Any] = {
    "vocab_size": 50_304,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
    "pad_token_id": 1,
    "bos_token_id": None,
    "eos_token_id": 50_279,
    "rope_theta": 10_000.0,
    "clip_qkv": None,
}
"""Of transformers' OlmoConfig."""
TRAINED = Path(__file__).resolve().parents[1] / "evaluation" / "golden" / "trained.safetensors"
EMBEDDING = "model.embed_tokens.weight"
ROWS = "rows"
"""Which rows of the embedding were trained."""

Weights = dict[str, npt.NDArray[np.float32]]


def drawn(seed: int, embedding: float = 0.35, matrix: float = 0.3) -> Weights:
    """Weights by Hugging Face's names, normal with these deviations: large enough that probabilities differ by far."""
    generator = np.random.Generator(np.random.PCG64(seed))
    width, hidden = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    shapes = {EMBEDDING: (CONFIG["vocab_size"], width)}
    for layer in range(CONFIG["num_hidden_layers"]):
        for name in ("q", "k", "v", "o"):
            shapes[f"model.layers.{layer}.self_attn.{name}_proj.weight"] = (width, width)
        for name in ("gate", "up"):
            shapes[f"model.layers.{layer}.mlp.{name}_proj.weight"] = (hidden, width)
        shapes[f"model.layers.{layer}.mlp.down_proj.weight"] = (width, hidden)
    return {
        name: (generator.standard_normal(shape) * (embedding if name == EMBEDDING else matrix)).astype(np.float32)
        for name, shape in shapes.items()
    }


def trained() -> Weights:
    """The weights that `evaluation_train.py` made."""
    from safetensors.numpy import load_file

    stored = load_file(TRAINED)
    weights = drawn(1, embedding=0.02, matrix=0.1)
    rows = stored.pop(ROWS)
    weights[EMBEDDING][rows] = stored.pop(EMBEDDING).astype(np.float32)
    return weights | {name: value.astype(np.float32) for name, value in stored.items()}


def weights(name: str) -> Weights:
    """`random` or `trained`."""
    return trained() if name == "trained" else drawn(0)
