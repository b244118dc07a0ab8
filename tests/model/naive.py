"""The model written as plainly as possible, from the paper's formulas, for options that no peer has together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from olmo_core.model.config import ModelRecipe


def naive_logits(p: dict[str, Tensor], r: ModelRecipe, row: list[int]) -> Tensor:
    """Logits of one row of tokens, in the type of the parameters `p`."""
    x = torch.stack([p["embedding.weight"][token] for token in row])
    for i in range(r.layers):
        block = f"blocks.{i}."
        normal = _norm(p, block + "attention_norm", r, x)
        attended = _attention(p, block + "attention.", r, normal)
        if r.block == "parallel":
            x = x + attended + _mlp(p, block + "mlp.", r, normal)
        else:
            x = x + attended
            x = x + _mlp(p, block + "mlp.", r, _norm(p, block + "mlp_norm", r, x))
    return _norm(p, "norm", r, x) @ p["embedding.weight" if r.tied else "output.weight"].T


def _norm(p: dict[str, Tensor], name: str, r: ModelRecipe, x: Tensor) -> Tensor:
    if r.norm == "rms":
        return x / (x.pow(2).mean(-1, keepdim=True) + r.norm_eps).sqrt() * p[name + ".weight"]
    centred = x - x.mean(-1, keepdim=True)
    normal = centred / (centred.pow(2).mean(-1, keepdim=True) + r.norm_eps).sqrt()
    return normal if r.norm == "layer" else normal * p[name + ".weight"] + p[name + ".bias"]


def _mlp(p: dict[str, Tensor], name: str, r: ModelRecipe, x: Tensor) -> Tensor:
    if r.activation == "gelu":
        h = x @ p[name + "up.weight"].T
        h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
    else:
        both = x @ p[name + "up_gate.weight"].T
        up, gate = both[:, : r.mlp_width], both[:, r.mlp_width :]
        h = up * gate / (1 + torch.exp(-gate))
    return h @ p[name + "down.weight"].T


def _attention(p: dict[str, Tensor], name: str, r: ModelRecipe, x: Tensor) -> Tensor:
    d, time = r.head_width, x.shape[0]
    projected = x @ p[name + "qkv.weight"].T
    if r.clip_qkv is not None:
        projected = projected.clamp(-r.clip_qkv, r.clip_qkv)
    heads = [projected[:, i * d : (i + 1) * d] for i in range(r.heads + 2 * r.key_value_heads)]
    out = []
    for head in range(r.heads):
        shared = head // (r.heads // r.key_value_heads)
        q, k = _rotated(heads[head], r), _rotated(heads[r.heads + shared], r)
        v = heads[r.heads + r.key_value_heads + shared]
        rows = []
        for t in range(time):
            weights = torch.softmax(k[: t + 1] @ q[t] / math.sqrt(d), 0)
            rows.append(weights @ v[: t + 1])
        out.append(torch.stack(rows))
    return torch.cat(out, -1) @ p[name + "output.weight"].T


def _rotated(x: Tensor, r: ModelRecipe) -> Tensor:
    half = r.head_width // 2
    rows = []
    for t, row in enumerate(x):
        angle = torch.tensor([t / r.rope_theta ** (2 * i / r.head_width) for i in range(half)], dtype=x.dtype)
        first, second = row[:half], row[half:]
        rows.append(torch.cat((first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin())))
    return torch.stack(rows)
