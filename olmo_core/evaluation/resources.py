"""Where and how models are scored. Nothing here needs torch: who starts an evaluation elsewhere has none, perhaps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from olmo_core import assets
from olmo_core.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class ScoringResources:
    """Where and how models are scored; changes no number but by rounding."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: a GPU where there is one; `cuda` fails where there is none."""
    batch_tokens: int | None = None
    """Tokens of a batch, filling included; None: 2,048 on a processor, 65,536 on a GPU."""
    tokenizer: str | None = None
    """Asset or file; None: the model's own."""
    scores: str | None = None
    """Folder of the scores' cache; None: `scores` beside the asset cache."""
    shard: bool = False
    """Each process holds a part of the model (FSDP2) in place of the whole; for checkpoints of ours that do not fit one
    device, under torchrun (`python -m olmo_core.evaluation`)."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}

    def __post_init__(self) -> None:
        """Raise RecipeError for a batch without room."""
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise RecipeError(f"batch_tokens: {self.batch_tokens}; at least 1 is needed")

    def scores_folder(self) -> Path:
        """Return where scores are kept between runs."""
        return Path(self.scores) if self.scores else assets.cache_folder().parent / "scores"
