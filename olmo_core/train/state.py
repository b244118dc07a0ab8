"""How far a run is: what a checkpoint holds beside tensors, so that training goes on with the very next batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from olmo_core.errors import IntegrityError
from olmo_core.recipe import canonical


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Where a run stands after a step."""

    step: int
    """Optimizer steps done, those that were left out for a loss that is not finite included."""
    tokens: int
    """Tokens seen."""
    next_batch: int
    """Index of the batch that comes next, counted over the whole run (`Loader.batch`)."""
    skipped: tuple[tuple[int, int], ...] = ()
    """Batches left out after a rollback, as half-open ranges of their indices."""
    dataset: str = ""
    """Fingerprint of the tokens (`TokenDataset.fingerprint`)."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Small JSON values of other parts of the trainer."""

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON values. Raises RecipeError for what has no canonical form (NaN)."""
        values: dict[str, Any] = canonical(self, "state")
        return values

    @classmethod
    def from_json(cls, data: Mapping[str, Any], where: str) -> TrainState:
        """Return the state that `to_json` wrote; `where` names the object for messages. Raises IntegrityError."""
        try:
            ranges = tuple((int(first), int(end)) for first, end in data["skipped"])
            numbers = {key: int(data[key]) for key in ("step", "tokens", "next_batch")}
            return cls(**numbers, skipped=ranges, dataset=str(data["dataset"]), extra=dict(data["extra"]))
        except (KeyError, TypeError, ValueError) as error:
            raise IntegrityError(
                f"{where}: not the state of a run ({type(error).__name__}: {error}); take an earlier checkpoint"
            ) from error
