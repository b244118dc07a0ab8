"""What a run tells of its steps. Sums stay on the device from step to step; one read by the host makes one line.

The fields of a line, with their formulas, are in docs/training.md.
"""

from __future__ import annotations

import math
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from olmo_core.train.devices import peak_flops, utilisation
from olmo_core.train.energy import JOULES_PER_KWH
from olmo_core.train.recipe import TrainRecipe
from olmo_core.train.world import World

BENCHMARKS = "benchmarks/"
"""Beginning of fields in a line of metrics: `benchmarks/arc_easy/acc_raw`, and the ends of its 95% interval, `.../low`, `.../high`;
`benchmarks/arc_easy/bits_per_byte`, of the right choice, which moves earlier."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """What the host has read from the device: the steps since the last read."""

    loss: float | None
    """Cross-entropy per target in nats; None when no step counted."""
    z_loss: float | None
    targets: int
    left_out: int
    """Steps that were not finite."""
    grad_norm: float | None
    """Of the last step, before clipping."""
    parameter_norm: float | None
    """After the last step."""
    in_row: int
    reached: int
    """As NonFinite.settle takes them."""


class Sums:
    """Running sums on the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._norm = torch.zeros((), dtype=torch.float64, device=device)
        self._reset()

    def _reset(self) -> None:
        self._sums = torch.zeros(4, dtype=torch.float64, device=self._device)
        """Cross-entropy, z-loss, targets; steps left out."""

    def add(self, losses: Tensor, targets: int, norm: Tensor, leave_out: Tensor) -> None:
        """Take a step in: `losses` are cross-entropy and z-loss summed over all ranks (float64), `norm` of the gradient."""
        # Filled, not copied from the host: a copy would wait for the device.
        step, without = torch.zeros_like(self._sums), torch.zeros_like(self._sums)
        step[:2] = losses
        step[2].fill_(targets)
        without[3].fill_(1.0)
        self._sums = self._sums + torch.where(leave_out, without, step)
        self._norm = norm

    def read(self, parameter_norm: Tensor, streak: Tensor) -> Read:
        """Return the sums and begin anew; waits for the device. `streak` is NonFinite.state."""
        everything = torch.cat([self._sums, self._norm[None], parameter_norm[None].double(), streak.double()])
        cross_entropy, z, targets, left_out, norm, of_parameters, in_row, reached = everything.tolist()
        self._reset()
        return Read(
            loss=cross_entropy / targets if targets else None,
            z_loss=z / targets if targets else None,
            targets=int(targets),
            left_out=int(left_out),
            grad_norm=_finite(norm),
            parameter_norm=_finite(of_parameters),
            in_row=int(in_row),
            reached=int(reached),
        )


class Clock:
    """Times the steps between two lines, without what is none of theirs (held-out losses)."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def lap(self) -> float:
        """Return the seconds since the last lap."""
        now = time.perf_counter()
        seconds, self._began = now - self._began, now
        return seconds

    def leave_out(self, seconds: float) -> None:
        """Do not count so many seconds that have just passed."""
        self._began += seconds


class Lines:
    """Makes lines of metrics out of what was read."""

    def __init__(self, recipe: TrainRecipe, world: World, carbon_kg_per_kwh: float, *, energy: bool) -> None:
        self._recipe, self._world, self._carbon, self._energy = recipe, world, carbon_kg_per_kwh, energy
        self._flops = recipe.model.flops_per_token(recipe.data.sequence_length)
        self.peak = _peak(world.device) if recipe.precision == "bfloat16" else None
        """Of one device, operations per second; None where it is not known, or not that of the run's precision."""

    def line(
        self,
        *,
        step: int,
        steps: int,
        read: Read,
        learning_rate: float,
        seconds: float,
        waited: float,
        millijoules: int,
    ) -> dict[str, Any]:
        """Return one line: JSON values, null for what is not known. `steps` since the line before; `waited` seconds."""
        tokens_per_second = steps * self._recipe.tokens_per_step / max(seconds, 1e-9) / self._world.size
        kwh = millijoules / 1000 / JOULES_PER_KWH if self._energy else None
        line = {
            "step": step,
            "tokens": step * self._recipe.tokens_per_step,
            "targets": read.targets,
            "loss": read.loss,
            "perplexity": perplexity(read.loss),
            "z_loss": read.z_loss if self._recipe.z_loss else None,
            "grad_norm": read.grad_norm,
            "parameter_norm": read.parameter_norm,
            "learning_rate": learning_rate,
            "tokens_per_second_per_device": tokens_per_second,
            "mfu": utilisation(self._flops, tokens_per_second, self.peak),
            "data_wait_seconds": waited / steps,
            "memory_bytes": memory_bytes(self._world.device),
            "seconds": seconds,
            "energy_kwh": kwh,
            "co2_kg": None if kwh is None else kwh * self._carbon,
        }
        if read.left_out:
            line["skipped"] = read.left_out
        return line


def perplexity(loss: float | None) -> float | None:
    """Return e^loss; None for none, and where it is too large for a number."""
    return None if loss is None or loss > 700 else math.exp(loss)


def memory_bytes(device: torch.device) -> int:
    """Return the most memory that was taken so far: of tensors on a GPU, of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _peak(device: torch.device) -> float | None:
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return peak_flops(properties.name, properties.multi_processor_count)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
