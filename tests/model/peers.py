"""Models of transformers' with the same weights as ours: the independent reference of these tests."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, OlmoConfig, OlmoForCausalLM

from olmo_core.model.config import ModelRecipe
from olmo_core.model.transformer import Transformer


def theirs(model: Transformer) -> Any:
    """OlmoForCausalLM, or LlamaForCausalLM where norms have weights, with the weights of `model`."""
    recipe = model.recipe
    values = {
        "vocab_size": recipe.embedding_rows,
        "hidden_size": recipe.width,
        "intermediate_size": recipe.mlp_width,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.key_value_heads,
        "max_position_embeddings": recipe.context,
        "rope_parameters": {"rope_type": "default", "rope_theta": recipe.rope_theta},
        "tie_word_embeddings": recipe.tied,
        "eos_token_id": recipe.end_of_text_id,
        "pad_token_id": recipe.padding_id,
        "bos_token_id": None,
    }
    peer: Any
    if recipe.norm == "layer":
        peer = OlmoForCausalLM(OlmoConfig(**values, clip_qkv=recipe.clip_qkv))
    else:
        peer = LlamaForCausalLM(LlamaConfig(**values, rms_norm_eps=recipe.norm_eps))
    peer.load_state_dict(their_names(dict(model.named_parameters()), recipe), strict=False)
    return peer.eval()


def their_names(tensors: dict[str, Tensor], recipe: ModelRecipe) -> dict[str, Tensor]:
    """Our tensors under transformers' names, fused matrices taken apart; written independently of the conversion."""
    out = {"model.embed_tokens.weight": tensors["embedding.weight"]}
    out["lm_head.weight"] = tensors["embedding.weight" if recipe.tied else "output.weight"]
    kv = recipe.key_value_heads * recipe.head_width
    for i in range(recipe.layers):
        block, layer = f"blocks.{i}.", f"model.layers.{i}."
        q, k, v = tensors[block + "attention.qkv.weight"].split([recipe.width, kv, kv])
        up, gate = tensors[block + "mlp.up_gate.weight"].chunk(2)
        out |= {layer + f"self_attn.{name}_proj.weight": one for name, one in (("q", q), ("k", k), ("v", v))}
        out |= {layer + f"mlp.{name}_proj.weight": one for name, one in (("up", up), ("gate", gate))}
        out[layer + "self_attn.o_proj.weight"] = tensors[block + "attention.output.weight"]
        out[layer + "mlp.down_proj.weight"] = tensors[block + "mlp.down.weight"]
        if recipe.norm == "rms":
            out[layer + "input_layernorm.weight"] = tensors[block + "attention_norm.weight"]
            out[layer + "post_attention_layernorm.weight"] = tensors[block + "mlp_norm.weight"]
    if recipe.norm == "rms":
        out["model.norm.weight"] = tensors["norm.weight"]
    return out
