"""What a run will be, known from its recipe and its tokens' manifest alone: steps, epochs, parameters, memory, work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.errors import InputError, RecipeError
from olmo_core.model.config import ModelRecipe
from olmo_core.train.recipe import TrainRecipe
from olmo_core.train.run_file import TrainResources

_NPY = ".npy"


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will be."""

    parameters: int
    steps: int
    tokens: int
    """That the run will see, whole steps."""
    tokens_per_step: int
    available: int
    """Tokens of the artifact."""
    chunks: int
    """Instances of one epoch."""
    dropped: int
    """Tokens in the tails of files, too short for an instance."""
    epochs: float
    """How often each token is seen."""
    flops: float
    """Floating-point operations of the whole run, by `ModelRecipe.flops_per_token`."""
    checkpoint_bytes: int
    """Of one checkpoint: weights and both moments in float32."""
    device_bytes: int
    """Memory of one device, roughly: see `device_bytes`."""
    unwise: tuple[str, ...] = ()
    """What a person should know before it starts: `olmo_core.train.advice`."""

    def to_json(self) -> dict[str, Any]:
        """Return the forecast as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "unwise"}


def forecast(
    recipe: TrainRecipe, tokens: Manifest, *, ranks: int = 1, resources: TrainResources = TrainResources()
) -> Forecast:
    """Return what a run over these tokens will be.

    Raises RecipeError for a batch that its ranks cannot share, InputError for fewer tokens than one batch.
    """
    if recipe.batch % ranks:
        raise RecipeError(
            f"batch: {recipe.batch} instances cannot be shared by {ranks} ranks (processes times machines); choose a multiple of {ranks}, or "
            f"another number of processes"
        )
    share = recipe.batch // ranks
    length = recipe.data.sequence_length
    counts = token_counts(tokens)
    chunks = sum(count // length for count in counts)
    if chunks < recipe.batch:
        raise InputError(
            f"{tokens.ref} has {sum(counts):,} tokens, that is {chunks:,} instances of data.sequence_length {length}: fewer than one "
            f"batch of {recipe.batch}. Lower batch or sequence_length, or take more tokens"
        )
    seen = recipe.steps * recipe.tokens_per_step
    return Forecast(
        parameters=recipe.model.parameters,
        steps=recipe.steps,
        tokens=seen,
        tokens_per_step=recipe.tokens_per_step,
        available=sum(counts),
        chunks=chunks,
        dropped=sum(count % length for count in counts),
        epochs=recipe.steps / (chunks // recipe.batch),
        flops=recipe.model.flops_per_token(length) * seen,
        checkpoint_bytes=12 * recipe.model.parameters,
        device_bytes=device_bytes(
            recipe.model,
            length,
            min(resources.micro_batch or share, share),
            ranks,
            recipe.precision,
            resources.recompute,
            resources.reshard_after_forward,
        ),
    )


def token_counts(tokens: Manifest) -> list[int]:
    """Return how many tokens each file of a tokens artifact has."""
    return [int(one.meta.get("tokens", one.rows)) for one in tokens.objects if one.key.endswith(_NPY)]


def device_bytes(
    model: ModelRecipe,
    length: int,
    instances: int,
    ranks: int,
    precision: str,
    recompute: str = "none",
    reshard_after_forward: bool = True,
) -> int:
    """Return roughly the memory that one device needs for training, in bytes.

    State: weights, gradients and two moments in float32 over all ranks. Gathered: the two largest pieces (a block, the
    embedding) in the working precision, whole; all of them without `reshard_after_forward`. Activations of a block for each token: 2 of `width` in float32 for the
    norms, 6 of `width` and 4 of `mlp_width` in the working precision (inputs of the products, queries, keys and values,
    attention's output, the gated branches); with recompute `block` only its input is kept, and one block's activations
    at a time, with `cheap` three quarters (what a profile of compiled blocks showed). Logits are made in pieces and not counted; attention keeps no scores (flash). Allocators need more.
    """
    width = 2 if precision == "bfloat16" else 4
    table = model.embedding_rows * model.width
    block = (model.parameters - table * (1 if model.tied else 2)) // model.layers
    tokens = length * instances
    activations = tokens * (2 * 4 * model.width + width * (6 * model.width + 4 * model.mlp_width))
    kept = model.layers * activations
    if recompute == "block":
        kept = model.layers * tokens * 4 * model.width + activations
    elif recompute == "cheap":
        kept = kept * 3 // 4
    gathered = table + block if reshard_after_forward else model.parameters
    return 16 * model.parameters // ranks + width * gathered + kept
