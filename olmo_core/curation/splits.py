"""Held-out splits: which documents nothing may be trained on, by a hash of source and id that never changes.

A document has a number in [0, 1): a stable hash of source and id under a constant key. A recipe's held-out splits lie
one after the other from 0 on, `validation` from 0 to its fraction, the next from there. So seeds, rules, shards and
other documents do not matter; renaming or dividing splits moves no document into training, and neither does a further
split at the end. Only less held out in all does that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import check_name
from olmo_core.curation.sampling import fractions, stable_hashes
from olmo_core.errors import InputError, RecipeError

TRAIN = "train"
"""The split of everything that is not held out."""
RESERVED = 0.1
"""Most that all splits of a recipe may hold out together. What trains without knowing the recipe (the background of a
classifier) leaves out every document with a lower number, and so whatever any recipe holds out by it."""
SEED = 0
"""Takes the place of the recipe's seed in a held-out split, so that it stays the same, token by token, under another."""
_PURPOSE = "held-out"
_TAKEN = {TRAIN, "training", "all", "trial"}


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """A held-out split; it becomes `corpus/{corpus}-{name}` and `tokens/{corpus}-{name}`."""

    name: str
    """Name of the split, e.g. `validation`."""
    fraction: float
    """Share of all documents, above 0; at most 0.1 for all splits together."""


def check_held_out(splits: Sequence[HeldOut], sources: Iterable[str]) -> None:
    """Raise RecipeError for names that cannot be splits of a corpus with these sources, and for impossible fractions."""
    names = [check_name(split.name, "held-out split") for split in splits]
    taken = _TAKEN | set(sources)
    for name in names:
        if name in taken or names.count(name) > 1:
            raise RecipeError(f"held-out split {name!r}: the name is taken; choose another, e.g. validation or test")
    for split in splits:
        if not 0 < split.fraction < 1:
            raise RecipeError(f"held-out split {split.name}: fraction {split.fraction}; give one above 0, e.g. 0.005")
    if (total := held_out_below(splits)) > RESERVED:
        raise RecipeError(f"held_out: {total:g} of all documents in all; hold out at most {RESERVED:g}")


def held_out_below(splits: Sequence[HeldOut]) -> float:
    """Return the number below which a document is held out."""
    return float(_bounds(splits)[-1])


def _bounds(splits: Sequence[HeldOut]) -> npt.NDArray[np.float64]:
    # Rounded, so that 0.005 + 0.005 and 0.01 hold out the same documents.
    return np.round(np.cumsum([0.0, *(split.fraction for split in splits)]), 12)


def numbers(source: str, ids: Iterable[str]) -> npt.NDArray[np.float64]:
    """Return the number of each document of a source, float64 (n,) in [0, 1); about 1.5 million a second."""
    return fractions(stable_hashes(0, _PURPOSE, source, ids))


def split_of(values: npt.NDArray[np.float64], splits: Sequence[HeldOut]) -> npt.NDArray[np.int64]:
    """Return for each number the index of its split (n,), -1 for training."""
    found = np.searchsorted(_bounds(splits), values, side="right") - 1
    return np.where(found < len(splits), found, -1)


def split_named(manifest: Manifest) -> str:
    """Return the split that a corpus or tokens artifact holds: `train` where its recipe held nothing out."""
    return str(manifest.recipe.get("split", TRAIN))


def refuse_held_out(manifest: Manifest) -> None:
    """Raise InputError unless a corpus or tokens artifact may be trained on. For whatever trains: ask before reading."""
    if (split := split_named(manifest)) != TRAIN:
        raise InputError(
            f"{manifest.ref} is the held-out split {split!r}: nothing may be trained on it. "
            f"Train on the artifact without -{split} in its name, and evaluate on this one"
        )
