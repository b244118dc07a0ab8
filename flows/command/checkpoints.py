"""What a CHECKPOINT on the command line may be, and where its tokenizer comes from."""

from __future__ import annotations

import sys
from pathlib import Path

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.tokens import origin

CHECKPOINT = "NAME of a run (its newest checkpoint), NAME@TAG or NAME/FINGERPRINT, each also after checkpoint/"
"""What every CHECKPOINT on the command line may be; `olmo_core.train.inspection.resolve_checkpoint` reads it."""


def tokenizer_of(store: ArtifactStore, checkpoint: Manifest) -> Path:
    """Return the file of the tokenizer that made a checkpoint's tokens; where nothing says which, that goes to standard error."""
    return origin.tokenizer_of(store, checkpoint, lambda said: print(said, file=sys.stderr))
