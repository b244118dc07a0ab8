"""What a run is made of, put together on every rank: data, model, optimizer, the step, the reports.

Nothing is written into the store here: a recipe that is wrong, or data that are, leave no trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.model.transformer import Transformer
from olmo_core.train.checks import check_fields
from olmo_core.train.dataset import TokenDataset, held_out_batches, open_tokens
from olmo_core.train.energy import EnergyMeter
from olmo_core.train.loader import Loader
from olmo_core.train.metrics import BENCHMARKS
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

    def is_to_measure(self, counts: Mapping[str, Any]) -> bool:
        """Say whether something that is asked for with each evaluation is not among the figures of a checkpoint."""
        return (self.held_out is not None and "held_out_loss" not in counts) or (
            self.benchmarks is not None and not any(key.startswith(BENCHMARKS) for key in counts)
        )


def assemble(
    store: ArtifactStore, run: RunFile, world: World, ranks: Ranks, watch: Watch, hook: LossHook | None
) -> Parts:
    """Return the parts; collective. An error on one rank is raised on all. Raises RecipeError and InputError."""
    recipe, resources = run.recipe, run.resources
    ranks.together(lambda: check_fields(run))
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
