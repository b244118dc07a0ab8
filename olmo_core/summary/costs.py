"""What a chain has taken: processor and GPU hours, energy where it was metered, money by a stated price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.summary.recipe import Prices

HOUR = 3600.0
NOT_METERED = "not metered"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one part has taken when it was made, whether it was reused since or not."""

    part: str
    cpu_hours: float = 0.0
    """Hours of processor cores."""
    gpu_hours: float = 0.0
    kwh: float | None = None
    """None: there was no meter, or nobody read it."""
    note: str = ""
    """How the hours were counted."""

    def money(self, prices: Prices) -> float | None:
        """Return the price, None where one that is needed is not stated."""
        parts = [(self.cpu_hours, prices.cpu_hour), (self.gpu_hours, prices.gpu_hour)]
        if any(hours and price is None for hours, price in parts):
            return None
        return sum(hours * price for hours, price in parts if price is not None)


def shown(cost: Cost, prices: Prices) -> tuple[str, str]:
    """Return energy and money for a table."""
    money = cost.money(prices)
    return (
        NOT_METERED if cost.kwh is None else f"{cost.kwh:.4g} kWh",
        "no price" if money is None else f"{money:.4f} {prices.currency}",
    )


def counted(part: str, manifests: Iterable[Manifest]) -> Cost:
    """Return what stages have taken by the processor time that their manifests state; energy of stages is not metered."""
    seconds = sum(one.cpu_seconds for one in manifests)
    return Cost(part=part, cpu_hours=seconds / HOUR, note="processor time of the stages")


def trained(run: Manifest, steps: Sequence[Mapping[str, Any]]) -> Cost:
    """Return what a run has taken: the time of its steps (held-out losses and checkpoints come on top) on all its devices.

    A processor device counts with the cores that one rank may use. `steps` are lines of metrics.
    """
    devices = int(run.counts.get("devices", 1))
    hours = sum(float(line.get("seconds") or 0.0) for line in steps) * devices / HOUR
    kwh = run.counts.get("energy_kwh")
    kwh = None if kwh is None else float(kwh)
    if run.counts.get("device") == "cuda":
        return Cost(part="training", gpu_hours=hours, kwh=kwh, note=f"time of the steps on {devices} GPUs")
    cores = max(1, int(run.environment.get("cores") or 1) // devices)
    note = f"time of the steps times {cores} cores"
    return Cost(part="training", cpu_hours=hours * cores, kwh=kwh, note=note)


def total(costs: Sequence[Cost], part: str = "in all") -> Cost:
    """Return the sum; energy is only that of parts that had a meter."""
    metered = [one.kwh for one in costs if one.kwh is not None]
    return Cost(
        part=part,
        cpu_hours=sum(one.cpu_hours for one in costs),
        gpu_hours=sum(one.gpu_hours for one in costs),
        kwh=sum(metered) if metered else None,
    )


def rows(costs: Sequence[Cost], prices: Prices) -> list[tuple[str, ...]]:
    """Return the table's rows: part, CPU-hours, GPU-hours, energy, money, how it was counted."""
    return [
        (one.part, f"{one.cpu_hours:.4f}", f"{one.gpu_hours:.4f}", *shown(one, prices), one.note)
        for one in [*costs, total(costs)]
    ]


HEADER = ("part", "CPU-hours", "GPU-hours", "energy", "cost", "")


def stated(prices: Prices) -> str:
    """Return by which prices, in words."""
    known = [
        f"{price:g} {prices.currency} for a {what}-hour"
        for what, price in (("CPU", prices.cpu_hour), ("GPU", prices.gpu_hour))
        if price is not None
    ]
    return "Prices as the recipe states them: " + (", ".join(known) if known else "none") + "."
