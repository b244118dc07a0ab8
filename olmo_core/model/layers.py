"""Linear layer and embedding that leave their weights as the memory was: `initialize` or a checkpoint fills them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from olmo_core.model.config import ModelRecipe
from olmo_core.model.eager_gradients import swiglu_down


class Linear(nn.Linear):
    """A matrix without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        """Do nothing: torch's own draw would be thrown away, and takes minutes at 65B."""


class Embedding(nn.Embedding):
    """A table of vectors."""

    def reset_parameters(self) -> None:
        """Do nothing, as in Linear."""


class MLP(nn.Module):
    """The block's second half: SwiGLU (two matrices side by side in, one out) or GELU (one in, one out)."""

    def __init__(self, recipe: ModelRecipe) -> None:
        super().__init__()
        if recipe.activation == "swiglu":
            self.up_gate: Linear | None = Linear(recipe.width, 2 * recipe.mlp_width)
            """Rows: up, then gate."""
            self.up = None
        else:
            self.up_gate, self.up = None, Linear(recipe.width, recipe.mlp_width)
        self.down = Linear(recipe.mlp_width, recipe.width)

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Return the same shape."""
        y: Tensor
        if self.up_gate is None:
            assert self.up is not None
            y = self.down(F.gelu(self.up(x_BTW)))
            return y
        if torch.compiler.is_compiling():
            # Two products: the gradients of one that was cut in two are put together by a kernel that computes both halves
            # at each place, at half the speed of memory.
            up, gate = (F.linear(x_BTW, half) for half in self.up_gate.weight.chunk(2))
            y = self.down(F.silu(gate) * up)
            return y
        return swiglu_down(self.up_gate(x_BTW), self.down.weight)
