"""Initial weights that depend on the seed and each parameter's name only: not on device, number of ranks or their order.

Every block of ROWS rows of a parameter is drawn on the CPU in float32 by a generator of its own, seeded by
(seed, name, block). A rank that holds a slice draws only the blocks that its slice touches.
"""

from __future__ import annotations

import hashlib
import math
import re

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from olmo_core.errors import RecipeError
from olmo_core.model.config import Initialization, ModelRecipe
from olmo_core.model.transformer import Transformer

ROWS = 1024
"""Rows drawn by one generator; part of what decides the weights."""
CUTOFF = 3.0
"""Mitchell's draws lie within so many deviations (OLMo's `init_cutoff_factor`)."""
NORMAL_DEVIATION = 0.02
_WRAPPERS = re.compile(r"_orig_mod\.|_checkpoint_wrapped_module\.")


@torch.no_grad()
def initialize(model: Transformer, seed: int) -> None:
    """Fill all parameters in place; works on sharded (DTensor) parameters, each rank filling its slice.

    Mitchell, as published with OLMo: truncated normal of deviation 1/sqrt(width); a block's two outputs into the residual
    stream 1/sqrt(2 inputs (number of the block from 1)). Weights of norms are 1, biases 0. Raises RecipeError for
    parameters on the meta device.
    """
    for wrapped, parameter in model.named_parameters():
        name = _WRAPPERS.sub("", wrapped)
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        if local.is_meta:
            raise RecipeError(f"parameter {name} has no memory yet: call to_empty(device=...) before initialize")
        if parameter.ndim == 1:
            local.fill_(1.0 if name.endswith("weight") else 0.0)
            continue
        row, column = 0, 0
        if isinstance(parameter, DTensor):
            _, (row, column) = compute_local_shape_and_global_offset(
                parameter.shape, parameter.device_mesh, parameter.placements
            )
        spread = deviation(model.recipe, name)
        for block in range(row // ROWS, -(-(row + local.shape[0]) // ROWS)):
            values = _draw(f"{seed}/{name}/{block}", parameter.shape[1], spread, model.recipe.initialization)
            first, last = max(row, block * ROWS), min(row + local.shape[0], (block + 1) * ROWS)
            wanted = values[first - block * ROWS : last - block * ROWS, column : column + local.shape[1]]
            local[first - row : last - row].copy_(wanted)


def deviation(recipe: ModelRecipe, name: str) -> float:
    """Return the deviation of a matrix's initial values, by its name in the model."""
    if recipe.initialization == "normal":
        return NORMAL_DEVIATION
    block = re.fullmatch(r"blocks\.(\d+)\.(attention\.output|mlp\.down)\.weight", name)
    if block is None:
        return 1 / math.sqrt(recipe.width)
    inputs = recipe.width if block[2] == "attention.output" else recipe.mlp_width
    return 1 / math.sqrt(2 * inputs * (int(block[1]) + 1))


def _draw(key: str, columns: int, spread: float, kind: Initialization) -> Tensor:
    """Return ROWS x columns values; whole blocks are drawn, also where only some of the rows are wanted."""
    digest = hashlib.sha256(key.encode()).digest()
    generator = torch.Generator(device="cpu").manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    values = torch.empty(ROWS, columns, device="cpu", dtype=torch.float32)
    if kind == "normal":
        return values.normal_(0.0, spread, generator=generator)
    # The inverse of the normal distribution at evenly spread values: no draw is thrown away.
    edge = math.erf(CUTOFF / math.sqrt(2))
    values.uniform_(-edge, edge, generator=generator)
    return values.erfinv_().mul_(spread * math.sqrt(2)).clamp_(-CUTOFF * spread, CUTOFF * spread)
