"""Checkpoints on the command line: which one an argument names, and the tokenizer of the tokens it was trained on."""

from __future__ import annotations

import sys
from pathlib import Path

from olmo_core import assets
from olmo_core.artifacts.lineage import backward
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError

CHECKPOINT = "NAME of a run (its newest checkpoint), NAME@TAG or NAME/FINGERPRINT, each also after checkpoint/"
"""What every CHECKPOINT on the command line may be; `olmo_core.train.inspection.resolve_checkpoint` reads it."""
DEFAULT = "olmo-tokenizer"


def tokenizer_of(store: ArtifactStore, checkpoint: Manifest) -> Path:
    """Return the file of the tokenizer that made a checkpoint's tokens, as their lineage says.

    Where it does not (tokens made elsewhere, or removed since), that is said, and OLMo's is taken. Raises AssetError where
    the file cannot be had.
    """
    try:
        recipes = [
            one.manifest.recipe for one in backward(store, checkpoint.ref) if one.manifest.stage == "tokenization"
        ]
    except OlmoError as error:
        print(f"the lineage of {checkpoint.ref} cannot be read ({error})", file=sys.stderr)
        recipes = []
    if recipes:
        return assets.fetch(str(recipes[0]["tokenizer"]), sha256=str(recipes[0]["tokenizer_sha256"]))
    print(f"nothing says which tokenizer made the tokens of {checkpoint.ref}: taking {DEFAULT}", file=sys.stderr)
    return assets.fetch(DEFAULT)
