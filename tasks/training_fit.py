"""Whether a run fits where it is to be trained: forecast memory beside this machine's, and the GPUs that it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from olmo_core.report.markdown import size
from olmo_core.train.forecast import Forecast
from olmo_core.train.machine import gpu_memory_bytes, gpus, memory_bytes
from tasks.training import TrainingResources

_PROCESS = 400_000_000
"""Bytes of a process with torch that has no model yet."""
_SAVING = 24
"""Bytes a parameter while a checkpoint is saved from memory of the host: weights, moments, and a copy of them."""
_REMEDY = "lower micro_batch, set recompute to block, or take more devices (processes, nodes) or a smaller model"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a run needs and what there is."""

    needs_bytes: int
    """About; on each GPU, or of all ranks here together on processors."""
    has_bytes: int | None
    """None where it cannot be known from here."""
    where: str
    """`on each GPU` or `on this machine`."""
    warnings: tuple[str, ...] = ()
    """What is likely to fail, with a remedy; nothing is refused for it, as it is a forecast."""

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"needs_bytes": self.needs_bytes, "has_bytes": self.has_bytes, "where": self.where}

    def __str__(self) -> str:
        has = f" of {size(self.has_bytes)}" if self.has_bytes is not None else ""
        return f"needs about {size(self.needs_bytes)}{has} {self.where}"


def fit(resources: TrainingResources, expected: Forecast) -> Fit:
    """Compare; of a cluster (slurm, kubernetes), which cannot be asked from here, only the need is told."""
    here, device, found = resources.launcher == "torchrun", resources.trainer.device, gpus()
    if device == "cuda" or (device == "auto" and (found or not here)):
        has, where, needs = (gpu_memory_bytes() if here and found else None), "on each GPU", expected.device_bytes
    else:
        ranks = resources.ranks_here
        saving = _SAVING * expected.parameters // (ranks * resources.nodes)
        needs = ranks * (max(expected.device_bytes, saving) + _PROCESS)
        has, where = (memory_bytes() if here else None), "on this machine"
    warnings = []
    if has is not None and needs > has:
        warnings.append(f"it does not fit: it {_needs(needs, has, where)}; {_REMEDY}")
    if device == "cuda" and here and resources.ranks_here > found:
        there = "no GPU" if not found else f"only {found} GPU{'s' if found > 1 else ''}"
        warnings.append(
            f"resources.trainer.device: cuda, but there is {there} on this machine for {resources.ranks_here} processes: train "
            f"where there are as many (a worker of pool gpu there, slurm, kubernetes), or set device to cpu"
        )
    return Fit(needs_bytes=needs, has_bytes=has, where=where, warnings=tuple(warnings))


def _needs(needs: int, has: int, where: str) -> str:
    return f"needs about {size(needs)}, and there are {size(has)} {where}"
