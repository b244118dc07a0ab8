"""The norms a model may have; statistics are float32 whatever the type of the input."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from olmo_core.model.config import ModelRecipe
from olmo_core.model.eager_gradients import layer_norm


class LayerNorm(nn.Module):
    """LayerNorm without weights, as OLMo has it.

    torch's kernel computes in float32 for bfloat16 too and rounds once at the end: the same bits as casting before
    and after, without the float32 copies.
    """

    def __init__(self, eps: float) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised along its last dimension."""
        if torch.compiler.is_compiling():
            return F.layer_norm(x, (x.shape[-1],), None, None, self.eps)
        return layer_norm(x, self.eps)


class AffineLayerNorm(nn.Module):
    """LayerNorm with weight and bias (GPT-2, Pythia)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised along its last dimension, scaled and moved."""
        return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)


class RMSNorm(nn.Module):
    """x over its root mean square, scaled (Llama; arXiv 1910.07467)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised along its last dimension and scaled."""
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def build_norm(recipe: ModelRecipe) -> nn.Module:
    """Return one norm of the recipe's kind, its weights uninitialised."""
    if recipe.norm == "layer":
        return LayerNorm(recipe.norm_eps)
    kind = AffineLayerNorm if recipe.norm == "layer_affine" else RMSNorm
    return kind(recipe.width, recipe.norm_eps)
