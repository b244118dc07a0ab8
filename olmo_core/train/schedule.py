"""The learning rate and the largest gradient norm of a step: pure functions of the recipe, step by step OLMo's.

Source: allenai/OLMo `olmo/optim.py`, CosWithWarmup, LinearWithWarmup, ConstantWithWarmupScheduler, whose counters are
1-based: the first step has number 1. In the unit `tokens` a step stands at the tokens seen when it has been taken.
One thing differs: there the gradients of a step are clipped before its own limit is set, so that the warmup of the limit
is one step late and step 1 has the final limit; here every step has its own.
"""

from __future__ import annotations

from math import cos, pi

from olmo_core.errors import RecipeError
from olmo_core.train.recipe import TrainRecipe


def learning_rate(recipe: TrainRecipe, step: int) -> float:
    """Return the learning rate of a step, counted from 1. Raises RecipeError for a schedule that cannot be."""
    check(recipe)
    begin = recipe.steps - recipe.schedule.anneal_steps
    if step <= begin or not recipe.schedule.anneal_steps:
        return _shape(recipe, step)
    return _shape(recipe, max(begin, 1)) * max(recipe.steps - step, 0) / recipe.schedule.anneal_steps


def clip_norm(recipe: TrainRecipe, step: int) -> float | None:
    """Return the largest global norm of a step's gradient, the step counted from 1; None for no clipping."""
    optimizer = recipe.optimizer
    if optimizer.clip_norm is None or _position(recipe, step) > optimizer.clip_warmup:
        return optimizer.clip_norm
    return optimizer.clip_warmup_factor * optimizer.clip_norm


def check(recipe: TrainRecipe) -> None:
    """Raise RecipeError, naming the field, for a schedule that cannot be."""
    schedule = recipe.schedule
    if not 0 <= schedule.anneal_steps <= recipe.steps:
        raise RecipeError(
            f"schedule.anneal_steps: {schedule.anneal_steps} of a run of {recipe.steps} steps; give at most that many"
        )
    if schedule.warmup < 0 or not 0 <= schedule.warmup_from <= 1:
        raise RecipeError(
            f"schedule.warmup: {schedule.warmup} from {schedule.warmup_from}; the first must be 0 or more, the second 0 to 1"
        )


def _position(recipe: TrainRecipe, step: int) -> int:
    return step * recipe.tokens_per_step if recipe.schedule.unit == "tokens" else step


def _shape(recipe: TrainRecipe, step: int) -> float:
    """The rate without the last decay to zero."""
    schedule, peak = recipe.schedule, recipe.optimizer.learning_rate
    position = _position(recipe, step)
    horizon = schedule.horizon
    if horizon is None:
        horizon = recipe.tokens if schedule.unit == "tokens" else recipe.steps
    if position < schedule.warmup:
        low = peak * schedule.warmup_from
        return low + (peak - low) * position / schedule.warmup
    if schedule.kind == "constant":
        return peak
    final = peak * schedule.final
    if position >= horizon:
        return final
    done = (position - schedule.warmup) / (horizon - schedule.warmup)
    if schedule.kind == "linear":
        return peak - (peak - final) * done
    return final + (peak - final) * (1 + cos(pi * (position - schedule.warmup) / (horizon - schedule.warmup))) / 2
