"""What a run is made of, put together on every rank: data, model, optimizer, the step, the reports.

Nothing is written into the store here: a recipe that is wrong, or data that are, leave no trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import RecipeError
from olmo_core.model.transformer import Transformer
from olmo_core.train import schedule
from olmo_core.train.dataset import TokenDataset, held_out_batches, open_tokens
from olmo_core.train.energy import EnergyMeter
from olmo_core.train.loader import Loader
from olmo_core.train.optimizer import build_optimizer
from olmo_core.train.ranks import Ranks
from olmo_core.train.reporting import Reporter
from olmo_core.train.run_file import RunFile
from olmo_core.train.sharding import sharded_model
from olmo_core.train.step import LossHook, Stepper
from olmo_core.train.watch import Watch
from olmo_core.train.world import World

if TYPE_CHECKING:
    from olmo_core.train.in_loop import InLoop


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a run on one rank."""

    dataset: TokenDataset
    held_out: TokenDataset | None
    benchmarks: InLoop | None
    loader: Loader
    model: Transformer
    """Sharded; its weights are not decided yet."""
    optimizer: torch.optim.AdamW
    stepper: Stepper
    report: Reporter


def assemble(
    store: ArtifactStore, run: RunFile, world: World, ranks: Ranks, watch: Watch, hook: LossHook | None
) -> Parts:
    """Return the parts; collective. An error on one rank is raised on all. Raises RecipeError and InputError."""
    recipe, resources = run.recipe, run.resources
    ranks.together(lambda: _check(run))
    watch.at("opening the tokens")
    dataset = ranks.together(lambda: open_tokens(store, run, at=watch.at))
    held_out = ranks.together(lambda: held_out_batches(store, run, at=watch.at) if run.held_out is not None else None)
    benchmarks = ranks.together(lambda: _benchmarks(run))
    loader = ranks.together(lambda: Loader(dataset, recipe.data, batch=recipe.batch, rank=world.rank, world=world.size))
    watch.at("building the model")
    model = sharded_model(recipe, resources, world.mesh)
    optimizer = build_optimizer(model, recipe.optimizer)
    stepper = Stepper(model, optimizer, recipe, world, micro_batch=resources.micro_batch, hook=hook, at=watch.at)
    report = Reporter(store, run, world, EnergyMeter(world.device, world.local_rank), ranks)
    return Parts(
        dataset=dataset,
        held_out=held_out,
        benchmarks=benchmarks,
        loader=loader,
        model=model,
        optimizer=optimizer,
        stepper=stepper,
        report=report,
    )


def _benchmarks(run: RunFile) -> InLoop | None:
    if not run.resources.evaluate_benchmarks:
        return None
    from olmo_core.train.in_loop import open_in_loop  # here: a machine that only trains has no tokenizers, perhaps

    return open_in_loop(run)


def _check(run: RunFile) -> None:
    """Raise RecipeError, naming the field, for what no run can be made of."""
    schedule.check(run.recipe)
    resources = run.resources
    for name in ("micro_batch", "save_every", "evaluate_every", "evaluate_batches", "evaluate_limit", "log_every"):
        value = getattr(resources, name)
        if value is not None and value < 1:
            raise RecipeError(f"resources.{name}: {value}; it must be at least 1")
    for name in ("save_seconds", "hang_seconds"):
        if getattr(resources, name) <= 0:
            raise RecipeError(f"resources.{name}: {getattr(resources, name)}; it must be more than 0")
