"""The device that a model is used on, outside training."""

from __future__ import annotations

import torch

from olmo_core.errors import RecipeError


def inference_device(text: str) -> tuple[torch.device, torch.dtype]:
    """Return the device of a name (cpu, cuda, cuda:1, ...) and the type to compute in there.

    bfloat16 on a GPU, as in training; float32 on a CPU, the weights as they are stored. Raises RecipeError for a device that
    is not there.
    """
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        reason = str(error).splitlines()[0]
        raise RecipeError(f"device {text!r} cannot be used: {reason}; there are {', '.join(there)}") from error
    return device, torch.bfloat16 if device.type == "cuda" else torch.float32
