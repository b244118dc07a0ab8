"""Our recipe and tensors under Hugging Face's names, and back: tables and checks, no files.

OLMo's own shape is `OlmoForCausalLM`; a sequential SwiGLU model with RMSNorm is `LlamaForCausalLM`. What neither has
(parallel blocks, GELU, LayerNorm with weights) has no Hugging Face form and is refused.
Our fused matrices are stacked rows: queries, keys, values; up, gate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from olmo_core.errors import InputError, RecipeError
from olmo_core.model.config import ModelRecipe
from olmo_core.recipe import from_mapping

OURS = "olmo_flows"
"""Key in config.json for what Hugging Face's configuration has no field for."""
_OLMO_EPS = 1e-5
"""`OlmoLayerNorm` has it as a constant."""
_PADDED = {50_304: 50_280}
"""Rows of the embedding -> ids of the tokenizer, where config.json does not say: OLMo's."""

Source = Callable[[str], Tensor]
"""Gives one whole tensor by its name."""


def architecture(recipe: ModelRecipe) -> str:
    """Return `olmo` or `llama`. Raises RecipeError, naming the field, for a model that has no Hugging Face form."""
    if recipe.block != "sequential":
        raise RecipeError(
            f"model.block: {recipe.block!r} has no Hugging Face form; only sequential blocks can be exported"
        )
    if recipe.activation != "swiglu":
        raise RecipeError(
            f"model.activation: {recipe.activation!r} has no Hugging Face form; only swiglu can be exported"
        )
    if recipe.norm == "layer_affine":
        raise RecipeError("model.norm: 'layer_affine' has no Hugging Face form; only layer and rms can be exported")
    if recipe.norm == "rms":
        if recipe.clip_qkv is not None:
            raise RecipeError("model.clip_qkv: LlamaForCausalLM, the form of a model with RMSNorm, has no clipping")
        return "llama"
    if recipe.norm_eps != _OLMO_EPS:
        raise RecipeError(f"model.norm_eps: {recipe.norm_eps}; OlmoForCausalLM knows only {_OLMO_EPS}")
    return "olmo"


def configuration(recipe: ModelRecipe, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Return the values of config.json."""
    kind = architecture(recipe)
    values = {
        "architectures": [{"olmo": "OlmoForCausalLM", "llama": "LlamaForCausalLM"}[kind]],
        "model_type": kind,
        "vocab_size": recipe.embedding_rows,
        "hidden_size": recipe.width,
        "intermediate_size": recipe.mlp_width,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.key_value_heads,
        "max_position_embeddings": recipe.context,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        # Both spellings: of transformers 4 and of 5.
        "rope_theta": recipe.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": recipe.rope_theta},
        "tie_word_embeddings": recipe.tied,
        "bos_token_id": None,
        "eos_token_id": recipe.end_of_text_id,
        "pad_token_id": recipe.padding_id,
        "dtype": str(dtype).removeprefix("torch."),
        "torch_dtype": str(dtype).removeprefix("torch."),
        OURS: {"vocabulary": recipe.vocabulary, "initialization": recipe.initialization},
    }
    return values | ({"clip_qkv": recipe.clip_qkv} if kind == "olmo" else {"rms_norm_eps": recipe.norm_eps})


def recipe_of(config: Mapping[str, Any], path: str = "config.json") -> ModelRecipe:
    """Return the recipe of the values of a config.json. Raises InputError, naming the field, for another kind of model."""
    kind = config.get("model_type")
    if kind not in ("olmo", "llama"):
        raise InputError(f"{path}: model_type {kind!r}; only olmo and llama models can be read")
    rope = {**(config.get("rope_parameters") or {}), **(config.get("rope_scaling") or {})}
    head_width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    refused = {
        "hidden_act": config.get("hidden_act", "silu") != "silu",
        "attention_bias": bool(config.get("attention_bias")),
        "mlp_bias": bool(config.get("mlp_bias")),
        "rope_parameters": bool({rope.get("rope_type"), rope.get("type")} - {None, "default"}),
        "head_dim": head_width * config["num_attention_heads"] != config["hidden_size"],
        "eos_token_id": not isinstance(config.get("eos_token_id"), int),
    }
    for field in (name for name, wrong in refused.items() if wrong):
        raise InputError(f"{path}: {field} = {config.get(field)!r}; no model of ours is like that")
    rows, more = config["vocab_size"], config.get(OURS) or {}
    values = {
        "width": config["hidden_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "kv_heads": config.get("num_key_value_heads"),
        "mlp_width": config["intermediate_size"],
        "vocabulary": _PADDED.get(rows, rows),
        "embedding_rows": rows,
        "context": config.get("max_position_embeddings", 2048),
        "tied": config.get("tie_word_embeddings", False),
        "norm": "layer" if kind == "olmo" else "rms",
        "norm_eps": _OLMO_EPS if kind == "olmo" else config.get("rms_norm_eps", 1e-6),
        "rope_theta": rope.get("rope_theta", config.get("rope_theta", 10_000.0)),
        "clip_qkv": config.get("clip_qkv"),
        "end_of_text_id": config["eos_token_id"],
        "padding_id": 1 if config.get("pad_token_id") is None else config["pad_token_id"],
    }
    if values["kv_heads"] == values["heads"]:
        values["kv_heads"] = None
    return from_mapping(ModelRecipe, {**values, **more}, path)


def to_hugging_face(recipe: ModelRecipe, source: Source) -> Iterator[tuple[str, Tensor]]:
    """Yield Hugging Face's tensors one after the other from a source of ours; each of ours is asked for once."""
    kv = recipe.key_value_heads * recipe.head_width
    yield "model.embed_tokens.weight", source("embedding.weight")
    for number in range(recipe.layers):
        block, layer = f"blocks.{number}.", f"model.layers.{number}."
        qkv = torch.split(source(block + "attention.qkv.weight"), [recipe.width, kv, kv])
        yield from ((f"{layer}self_attn.{name}_proj.weight", one) for name, one in zip("qkv", qkv, strict=True))
        del qkv
        yield layer + "self_attn.o_proj.weight", source(block + "attention.output.weight")
        up, gate = source(block + "mlp.up_gate.weight").chunk(2)
        yield layer + "mlp.gate_proj.weight", gate
        yield layer + "mlp.up_proj.weight", up
        del up, gate
        yield layer + "mlp.down_proj.weight", source(block + "mlp.down.weight")
        if recipe.norm == "rms":
            yield layer + "input_layernorm.weight", source(block + "attention_norm.weight")
            yield layer + "post_attention_layernorm.weight", source(block + "mlp_norm.weight")
    if recipe.norm == "rms":
        yield "model.norm.weight", source("norm.weight")
    if not recipe.tied:
        yield "lm_head.weight", source("output.weight")


def from_hugging_face(recipe: ModelRecipe, source: Source) -> Iterator[tuple[str, Tensor]]:
    """Yield our tensors one after the other from a source of Hugging Face's."""
    yield "embedding.weight", source("model.embed_tokens.weight")
    for number in range(recipe.layers):
        block, layer = f"blocks.{number}.", f"model.layers.{number}."
        yield (
            block + "attention.qkv.weight",
            torch.cat([source(f"{layer}self_attn.{name}_proj.weight") for name in "qkv"]),
        )
        yield block + "attention.output.weight", source(layer + "self_attn.o_proj.weight")
        yield (
            block + "mlp.up_gate.weight",
            torch.cat([source(f"{layer}mlp.{name}_proj.weight") for name in ("up", "gate")]),
        )
        yield block + "mlp.down.weight", source(layer + "mlp.down_proj.weight")
        if recipe.norm == "rms":
            yield block + "attention_norm.weight", source(layer + "input_layernorm.weight")
            yield block + "mlp_norm.weight", source(layer + "post_attention_layernorm.weight")
    if recipe.norm == "rms":
        yield "norm.weight", source("model.norm.weight")
    if not recipe.tied:
        yield "output.weight", source("lm_head.weight")
