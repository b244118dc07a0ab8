"""TensorBoard and Weights & Biases: where a run's metrics also go when RUN.json asks for it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from olmo_core.errors import RecipeError
from olmo_core.recipe import canonical
from olmo_core.train.run_file import RunFile

log = logging.getLogger(__name__)


class Outlet(Protocol):
    """Somewhere that metrics go."""

    def line(self, values: Mapping[str, Any]) -> None:
        """Take a line of metrics."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class TensorBoard:
    """Event files, in a folder of the run's own below the one that was given."""

    def __init__(self, folder: str, run: RunFile) -> None:
        try:
            module = importlib.import_module("torch.utils.tensorboard")
        except ImportError as error:
            raise RecipeError(
                f"resources.tensorboard: {folder}, but the package tensorboard is not installed ({error}); "
                f"install `olmo-flows[tensorboard]`, or leave the field out"
            ) from error
        name = f"{run.ref.name}-{run.ref.fingerprint[:12]}"
        self._writer = module.SummaryWriter(f"{folder.rstrip('/')}/{name}")

    def line(self, values: Mapping[str, Any]) -> None:
        """Take a line of metrics."""
        for key, value in values.items():
            if key != "step" and isinstance(value, int | float):
                self._writer.add_scalar(key, value, values["step"])

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WeightsAndBiases:
    """A run of a project; one that is started again goes on as the same."""

    def __init__(self, project: str, run: RunFile) -> None:
        try:
            self._wandb: Any = importlib.import_module("wandb")
        except ImportError as error:
            raise RecipeError(
                f"resources.wandb_project: {project}, but the package wandb is not installed; `pip install wandb`, or "
                f"leave the field out"
            ) from error
        name = f"{run.ref.name}-{run.ref.fingerprint[:12]}"
        self._run = self._wandb.init(
            project=project, id=name, name=name, resume="allow", config=canonical(run.recipe), reinit="return_previous"
        )

    def line(self, values: Mapping[str, Any]) -> None:
        """Take a line of metrics."""
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
        self._run.log(numbers, step=int(values["step"]))

    def close(self) -> None:
        """Write what is left."""
        self._run.finish()


def outlets(run: RunFile) -> list[Outlet]:
    """Return what RUN.json asks for. Raises RecipeError, naming the field, where a package is missing."""
    found: list[Outlet] = []
    if run.resources.tensorboard is not None:
        found.append(TensorBoard(run.resources.tensorboard, run))
    if run.resources.wandb_project is not None:
        found.append(WeightsAndBiases(run.resources.wandb_project, run))
    return found
