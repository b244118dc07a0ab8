"""Where the metrics of a run go, as one object: the store's record, TensorBoard, W&B. Only rank 0 writes."""

from __future__ import annotations

from typing import Any

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train.energy import EnergyMeter
from olmo_core.train.metrics import Lines
from olmo_core.train.outlets import Outlet, outlets
from olmo_core.train.ranks import Ranks
from olmo_core.train.recording import Line, Recorder
from olmo_core.train.run_file import RunFile
from olmo_core.train.state import TrainState
from olmo_core.train.world import World


class Reporter:
    """Takes what a run has to tell, on every rank; `line`, `event`, `finish` do nothing but on rank 0."""

    def __init__(self, store: ArtifactStore, run: RunFile, world: World, meter: EnergyMeter, ranks: Ranks) -> None:
        """Collective. Raises RecipeError where RUN.json asks for a package that is missing."""
        self._store, self._run, self._world, self._meter = store, run, world, meter
        self._recorder: Recorder | None = None
        gpus, packages, machines = world.agree([meter.gpu, meter.packages, world.local_rank == 0])
        if packages < machines:
            meter.leave_out_packages()
        energy = gpus == world.size if world.device.type == "cuda" else packages == machines
        self.measured = [
            name for name, all_of in (("gpu", gpus == world.size), ("cpu", packages == machines)) if all_of
        ]
        """What of the energy has a meter everywhere; without it there is no number."""
        self._lines = Lines(run.recipe, world, run.resources.carbon_kg_per_kwh, energy=energy)
        self._outlets: list[Outlet] = ranks.together(lambda: outlets(run) if world.rank == 0 else [])

    def epoch(self, number: int) -> None:
        """Write under this epoch number from now on."""
        if self._world.rank != 0:
            return
        if self._recorder is None:
            self._recorder = Recorder(self._store, self._run, number)
            self._recorder.begin()
        else:
            self._recorder.new_epoch(number)

    def millijoules(self) -> int:
        """Return what this rank's meters have counted since the last call."""
        return self._meter.millijoules()

    def values(self, **facts: Any) -> Line:
        """Return a line of metrics (see `Lines.line`)."""
        return self._lines.line(**facts)

    def line(self, values: Line) -> None:
        """Take a line of metrics."""
        if self._recorder is not None:
            self._recorder.line(values)
            for outlet in self._outlets:
                outlet.line(values)

    def event(self, kind: str, message: str, **facts: Any) -> None:
        """Take something worth telling."""
        if self._recorder is not None:
            self._recorder.event(kind, message, **facts)

    def flush(self) -> None:
        """Write the lines so far; returns when they are written."""
        if self._recorder is not None:
            self._recorder.flush(wait=True)

    def finish(self, state: TrainState) -> None:
        """Publish the run artifact."""
        if self._recorder is not None:
            self._recorder.finish(
                state,
                {
                    "parameters": self._run.recipe.model.parameters,
                    "devices": self._world.size,
                    "device": self._world.device.type,
                    "energy_measured": self.measured,
                },
            )

    def close(self) -> None:
        """Write what is left."""
        if self._recorder is not None:
            self._recorder.close()
        for outlet in self._outlets:
            outlet.close()
