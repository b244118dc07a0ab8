"""Token files and tokens artifacts of given arrays, for the tests of what reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import FinishedShard, Manifest, StoredObject
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.model.config import ModelRecipe
from olmo_core.train.chunks import OpenFile
from olmo_core.train.dataset import TokenDataset
from olmo_core.train.recipe import DataRecipe, TrainRecipe
from olmo_core.train.run_file import RunFile, TrainResources

LENGTH = 8
"""Sequence length of these tests."""
MODEL = ModelRecipe(
    width=16, layers=1, heads=2, mlp_width=16, vocabulary=1000, embedding_rows=1024, context=4096, end_of_text_id=999
)


def written(path: Path, values: npt.NDArray[Any]) -> str:
    """Write an array without a header; returns its sha256."""
    values.tofile(path)
    return hashlib.sha256(values.tobytes()).hexdigest()


def dataset_of(
    folder: Path,
    arrays: Sequence[npt.NDArray[Any]],
    *,
    masks: Sequence[npt.NDArray[np.bool_]] = (),
    sequence_length: int = LENGTH,
    vocabulary: int = 1000,
) -> TokenDataset:
    """Return the dataset of arrays, each a file."""
    files = []
    for i, array in enumerate(arrays):
        mask = folder / f"{i}.mask" if masks else None
        files.append(
            OpenFile(
                name=f"{i:05d}.npy",
                path=str(folder / f"{i}.npy"),
                sha256=written(folder / f"{i}.npy", array),
                dtype=str(array.dtype),
                tokens=len(array),
                label_mask=str(mask) if mask else None,
                label_mask_sha256=written(mask, masks[i]) if mask else None,
            )
        )
    return TokenDataset(files, sequence_length=sequence_length, vocabulary=vocabulary, end_of_text_id=999)


def tokens_artifact(
    store: ArtifactStore, arrays: Sequence[npt.NDArray[Any]], *, name: str = "toy", split: str | None = None
) -> Manifest:
    """Publish a tokens artifact of arrays, without an index."""
    digests = [hashlib.sha256(array.tobytes()).hexdigest() for array in arrays]
    fingerprint = hashlib.sha256("".join([name, *digests]).encode()).hexdigest()
    ref = ArtifactRef(kind=Kind.TOKENS, name=name, fingerprint=fingerprint)
    shards = []
    for i, (array, digest) in enumerate(zip(arrays, digests, strict=True)):
        path = f"{ref.address}/attempt-x/{i:05d}.npy"
        store.storage.put(path, array.tobytes())
        one = StoredObject(
            key=f"{i:05d}.npy", path=path, size=array.nbytes, sha256=digest, digest=digest, rows=len(array),
            meta={"tokens": len(array), "dtype": str(array.dtype)},
        )  # fmt: skip
        shards.append(FinishedShard(key=f"{i:05d}", fingerprint=digest, objects=(one,), ledger=Ledger()))
    manifest = Manifest(
        ref=ref, stage="packing", version=1, recipe={"shard_tokens": 1, **({"split": split} if split else {})}, inputs={},
        attempt="x", shards=tuple(shards), ledger=Ledger(),
    )  # fmt: skip
    store.publish(manifest)
    return manifest


def run_of(store: ArtifactStore, tokens: ArtifactRef, cache: Path, **changes: Any) -> RunFile:
    """Return a run over tokens."""
    recipe = TrainRecipe(
        name="toy",
        model=MODEL,
        tokens=10_000,
        batch=4,
        data=DataRecipe(sequence_length=LENGTH, **changes.pop("data", {})),
    )
    return RunFile(store=store.uri, recipe=recipe, tokens=tokens, resources=TrainResources(cache=str(cache)), **changes)
