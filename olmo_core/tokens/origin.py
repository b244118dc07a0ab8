"""Which tokenizer made the tokens that a checkpoint was trained on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from olmo_core import assets
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore

log = logging.getLogger(__name__)
DEFAULT = "olmo-tokenizer"
"""Asset that is taken where nothing says what made the tokens."""


def tokenization_of(store: ArtifactStore, checkpoint: Manifest) -> Mapping[str, Any] | None:
    """Return the recipe of the stage that made a checkpoint's tokens: `tokenizer` (an asset) and `tokenizer_sha256`.

    None for tokens that were made elsewhere, or where the store does not have that stage any more.
    """
    tokens = checkpoint.inputs.get("tokens")
    packed = store.find(tokens) if tokens is not None else None
    for ref in packed.inputs.values() if packed is not None else ():
        found = store.find(ref)
        if found is not None and found.stage == "tokenization":
            return found.recipe
    return None


def tokenizer_of(store: ArtifactStore, checkpoint: Manifest, say: Callable[[str], object] = log.warning) -> Path:
    """Return the file of that tokenizer, its bytes checked; OLMo's where nothing is known, which `say` is told.

    Raises AssetError where the file cannot be had.
    """
    recipe = tokenization_of(store, checkpoint)
    if recipe is not None:
        return assets.fetch(str(recipe["tokenizer"]), sha256=str(recipe["tokenizer_sha256"]))
    say(f"nothing says which tokenizer made the tokens of {checkpoint.ref}: taking {DEFAULT}")
    return assets.fetch(DEFAULT)
