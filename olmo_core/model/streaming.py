"""A forward pass of a model that does not fit into memory: each part's weights are there only while it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

Parts = Iterable[tuple[str, nn.Module]]


def stream_weights(parts: Parts, load: Callable[[str], Tensor]) -> None:
    """Make each part (its name in the model, the module) load its weights, float32, when called, and drop them after.

    The parts' parameters are on the meta device before and after. `load` gives a tensor by its name in the model.
    """
    for prefix, part in parts:
        part.register_forward_pre_hook(_loader(prefix, load))
        part.register_forward_hook(_dropper)


def _loader(prefix: str, load: Callable[[str], Tensor]) -> Callable[[nn.Module, Any], None]:
    def before(part: nn.Module, _: Any) -> None:
        weights = {name: load(f"{prefix}.{name}").to(torch.float32) for name, _ in part.named_parameters()}
        part.load_state_dict(weights, assign=True)

    return before


def _dropper(part: nn.Module, _: Any, __: Any) -> None:
    part.to_empty(device="meta")
