"""The recipe of a training run: what decides its checkpoints, and nothing of where or how it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from olmo_core.artifacts.ref import check_name
from olmo_core.errors import RecipeError
from olmo_core.model.config import ModelRecipe, preset
from olmo_core.recipe import from_mapping, read_yaml, recipe_file

RECIPES = Path(__file__).resolve().parents[2] / "deployments" / "recipes" / "train"


@dataclass(frozen=True, kw_only=True)
class RepetitionRecipe:
    """Instances with runaway repetition get no loss; they keep their slot. OLMo 2's `instance_filter`."""

    longest_period: int = 13
    """Longest repeated sequence in tokens."""
    shortest_period: int = 1
    """Shortest repeated sequence in tokens."""
    times: int = 32
    """Repetitions in a row from which on an instance is masked."""


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """How tokens become batches."""

    sequence_length: int = 2048
    """Tokens of one instance; each file is cut into such chunks, and its tail is dropped and counted."""
    order: Literal["permutation", "olmo"] = "permutation"
    """`permutation`: a pure function of seed, epoch and number of chunks, without memory; `olmo`: numpy's PCG64 shuffle."""
    seed: int = 6198
    """Of the order; OLMo's."""
    mask_documents: bool = False
    """Attention does not cross from one document into the next."""
    repetition: RepetitionRecipe | None = None
    """Mask instances with runaway repetition; None for not."""


@dataclass(frozen=True, kw_only=True)
class OptimizerRecipe:
    """AdamW as OLMo uses it."""

    learning_rate: float = 4e-4
    """At the peak."""
    betas: tuple[float, ...] = (0.9, 0.95)
    """Decay of the first and second moments."""
    eps: float = 1e-5
    """Added to the root of the second moment."""
    weight_decay: float = 0.1
    """Decoupled, of matrices."""
    decay_embeddings: bool = False
    """Decay the embedding too (65B); also where it is tied."""
    decay_norms: bool = False
    """Decay weights and biases of norms too (65B)."""
    clip_norm: float | None = 1.0
    """Largest global norm of the gradient; None for no clipping."""
    clip_warmup: int = 0
    """Steps (or tokens, by the schedule's unit) in which the largest norm is `clip_warmup_factor` times `clip_norm`."""
    clip_warmup_factor: float = 1.0
    """See `clip_warmup`; OLMo-7B: 10 for 1,000 steps."""


@dataclass(frozen=True, kw_only=True)
class ScheduleRecipe:
    """The learning rate over time."""

    kind: Literal["linear", "cosine", "constant"] = "cosine"
    """Shape after the warmup."""
    unit: Literal["steps", "tokens"] = "steps"
    """What `warmup`, `horizon` and `clip_warmup` count."""
    warmup: int = 2000
    """Linear rise to the peak."""
    warmup_from: float = 0.1
    """Fraction of the peak at which the warmup begins; OLMo's is 0.1, not 0."""
    horizon: int | None = None
    """Where the shape reaches `final`; None: at the end of the run."""
    final: float = 0.1
    """Fraction of the peak at the horizon."""
    anneal_steps: int = 0
    """Last steps of the run in which the rate goes linearly to zero; OLMo-7B: 1,000."""


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """Everything that decides the checkpoints of a run, given its tokens."""

    name: str
    """Name of the run and of its checkpoints."""
    model: ModelRecipe
    """In YAML: the name of a preset (`1b`), or a mapping with `preset` and what differs from it."""
    tokens: int
    """Budget: the run ends with the first step at which so many tokens were seen."""
    batch: int
    """Instances of a step over all devices."""
    data: DataRecipe = field(default_factory=DataRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the matrix products; parameters, optimizer state and gradient sums are always float32."""
    z_loss: float | None = None
    """Weight of the squared log of the softmax's denominator (PaLM: 1e-4); None for none."""
    seed: int = 6198
    """Of the initial weights."""
    skip_limit: int = 10
    """Steps in a row with a loss or gradient that is not finite until the run rolls back and leaves their data out."""

    def __post_init__(self) -> None:
        """Raise RecipeError, naming the field, for values that cannot be."""
        check_name(self.name, "run name")
        if self.data.sequence_length > self.model.context:
            raise RecipeError(
                f"data.sequence_length: {self.data.sequence_length} is longer than model.context, {self.model.context}"
            )
        if self.data.sequence_length < 2:
            raise RecipeError(f"data.sequence_length: {self.data.sequence_length}; it must be at least 2")
        if self.batch < 1:
            raise RecipeError(f"batch: {self.batch}; it must be at least 1")
        if self.tokens < self.tokens_per_step:
            raise RecipeError(
                f"tokens: {self.tokens:,} is less than one step of {self.batch} x {self.data.sequence_length} = "
                f"{self.tokens_per_step:,} tokens; raise tokens (an override: budget) or lower batch"
            )
        if len(self.optimizer.betas) != 2:
            raise RecipeError(f"optimizer.betas: {self.optimizer.betas}; two numbers are needed")

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step over all devices."""
        return self.batch * self.data.sequence_length

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return -(-self.tokens // self.tokens_per_step)


def train_recipe(values: Any, path: str = "recipe") -> TrainRecipe:
    """Return the recipe of plain values, `model` being a preset's name, a mapping with `preset`, or a whole model."""
    if isinstance(values, Mapping) and "model" in values:
        values = {**values, "model": _model(values["model"], f"{path}.model")}
    return from_mapping(TrainRecipe, values, path)


def _model(value: Any, path: str) -> Any:
    if isinstance(value, str):
        return preset(value)
    if isinstance(value, Mapping) and "preset" in value:
        base = {**preset(str(value["preset"])).__dict__}
        return from_mapping(ModelRecipe, {**base, **{k: v for k, v in value.items() if k != "preset"}}, path)
    return value


def load_train_recipe(name_or_path: str, folder: Path = RECIPES) -> TrainRecipe:
    """Return the recipe of a name (`deployments/recipes/train/{name}.yaml`) or of a YAML file's path."""
    path = recipe_file(name_or_path, folder, "training recipe")
    return train_recipe(read_yaml(path), path.name)
