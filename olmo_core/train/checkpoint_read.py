"""Reading checkpoints: only the slices that are needed, each checked by its sha256, into memory laid out in any way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError, RecipeError
from olmo_core.model.config import ModelRecipe
from olmo_core.recipe import from_mapping
from olmo_core.train.checkpoint_format import INDEX, Box, Index, Slice, StoredTensor, overlap
from olmo_core.train.checkpoint_tensors import DTYPES, MODEL, Target

if TYPE_CHECKING:
    from olmo_core.model.transformer import Transformer

_AT_ONCE = 4
"""Slices of 64 MiB that a process reads at the same time; each is in memory twice for a moment."""


def read_index(store: ArtifactStore, manifest: Manifest) -> Index:
    """Return a checkpoint's index, checked by its sha256. Raises IntegrityError when it is damaged."""
    if manifest.ref.kind != Kind.CHECKPOINT:
        raise RecipeError(f"{manifest.ref} is no checkpoint; `olmo artifacts ls checkpoint` lists those there are")
    one = manifest.object(INDEX)
    raw = store.storage.read(one.path)
    if hashlib.sha256(raw).hexdigest() != one.sha256:
        raise IntegrityError(_damaged(manifest, one.path, "the index has another sha256 than its manifest states"))
    return Index.from_bytes(raw, one.path)


def read_into(store: ArtifactStore, manifest: Manifest, targets: Iterable[Target]) -> None:
    """Fill the targets' memory, whatever ranks wrote it; each slice is read once.

    Raises IntegrityError, naming tensor and object, when a slice is damaged.
    """
    paths = {one.key: one.path for one in manifest.objects}
    wanted: dict[tuple[str, int], tuple[Slice, list[tuple[Target, Box]]]] = {}
    for target in targets:
        assert target.found is not None
        for part in target.found.slices:
            if (shared := overlap((part.offset, part.shape), target.box)) is not None:
                if part.object not in paths:
                    raise IntegrityError(_damaged(manifest, part.object, "the manifest does not list it"))
                wanted.setdefault((part.object, part.begin), (part, []))[1].append((target, shared))
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        tasks = [threads.submit(_fill, store, manifest, paths[part.object], part, to) for part, to in wanted.values()]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _fill(store: ArtifactStore, manifest: Manifest, path: str, part: Slice, to: Sequence[tuple[Target, Box]]) -> None:
    tensor = to[0][0]
    assert tensor.found is not None
    raw = store.storage.read(path, start=part.begin, length=part.end - part.begin)
    if len(raw) != part.end - part.begin:
        raise IntegrityError(_damaged(manifest, path, f"{tensor.name}: the object ends before byte {part.end:,}"))
    if (seen := hashlib.sha256(raw).hexdigest()) != part.sha256:
        what = f"{tensor.name} from {list(part.offset)}: sha256 {seen[:12]}..., expected {part.sha256[:12]}..."
        raise IntegrityError(_damaged(manifest, path, what))
    whole = torch.from_numpy(np.frombuffer(raw, np.uint8).copy()).view(DTYPES[tensor.found.dtype]).reshape(part.shape)
    with torch.no_grad():
        for target, shared in to:
            _view(target.local, shared, target.box[0]).copy_(_view(whole, shared, part.offset))


def _view(tensor: torch.Tensor, box: Box, origin: Sequence[int]) -> torch.Tensor:
    """Return the part of a tensor that a box covers; the tensor begins at `origin` in the whole."""
    for dimension, (offset, size, first) in enumerate(zip(*box, origin, strict=True)):
        tensor = tensor.narrow(dimension, offset - first, size)
    return tensor


def _damaged(manifest: Manifest, path: str, what: str) -> str:
    step = manifest.counts.get("step", "?")
    return (
        f"the checkpoint of step {step}, {manifest.ref}, is damaged: {path}: {what}. Take an earlier one: delete "
        f"{manifest.ref.manifest_path}, and the run goes on from the checkpoint before; `olmo artifacts verify` finds all damage"
    )


def read_tensors(
    store: ArtifactStore, manifest: Manifest, prefix: str = MODEL, device: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """Return whole tensors whose names begin with `prefix`, by name without it, as they were stored."""
    index = read_index(store, manifest)
    wanted = {name: one for name, one in index.tensors.items() if name.startswith(prefix)}
    made = {name: torch.empty(one.shape, dtype=DTYPES[one.dtype], device=device) for name, one in wanted.items()}
    read_into(store, manifest, [_whole(name, made[name], one) for name, one in wanted.items()])
    return {name.removeprefix(prefix): tensor for name, tensor in made.items()}


def model_source(store: ArtifactStore, manifest: Manifest) -> Callable[[str], torch.Tensor]:
    """Return what reads one whole tensor of the model by its name, for models larger than memory."""
    index = read_index(store, manifest)

    def read(name: str) -> torch.Tensor:
        if (one := index.tensors.get(MODEL + name)) is None:
            raise IntegrityError(_damaged(manifest, INDEX, f"it has no {name}"))
        made = torch.empty(one.shape, dtype=DTYPES[one.dtype])
        read_into(store, manifest, [_whole(MODEL + name, made, one)])
        return made

    return read


def load_model(
    store: ArtifactStore,
    checkpoint: str | ArtifactRef,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Transformer:
    """Return the model of a checkpoint (a ref, or `checkpoint/name@step1000-tokens4B`), whole, in evaluation mode.

    Only the model's tensors are read, slice by slice: beside the model a few slices are in memory. Raises RecipeError when
    there is no such checkpoint, IntegrityError when it is damaged.
    """
    from olmo_core.model.transformer import Transformer  # here: the trainer reads its checkpoints without it

    manifest = store.manifest(store.resolve(checkpoint) if isinstance(checkpoint, str) else checkpoint)
    index = read_index(store, manifest)
    with torch.device(device):
        model: Transformer = Transformer(model_recipe(manifest))
    for parameter in model.parameters():  # not `model.to`: tables of angles stay in float32
        parameter.data = parameter.data.to(dtype)
    wanted: Mapping[str, torch.Tensor] = model.state_dict()
    if lacking := sorted(name for name in wanted if MODEL + name not in index.tensors):
        raise IntegrityError(_damaged(manifest, INDEX, f"it has no {', '.join(lacking[:3])}"))
    read_into(store, manifest, [_whole(MODEL + n, tensor, index.tensors[MODEL + n]) for n, tensor in wanted.items()])
    return model.eval()


def model_recipe(manifest: Manifest) -> ModelRecipe:
    """Return the shape of a checkpoint's model."""
    return from_mapping(ModelRecipe, manifest.recipe["model"], f"{manifest.ref}: model")


def _whole(name: str, tensor: torch.Tensor, stored: StoredTensor) -> Target:
    if tuple(tensor.shape) != stored.shape or prod(stored.shape) != tensor.numel():
        raise IntegrityError(
            f"{name} has shape {list(stored.shape)} in the checkpoint, the model's is {list(tensor.shape)}"
        )
    return Target(
        name=name, shape=stored.shape, box=((0,) * len(stored.shape), stored.shape), local=tensor, found=stored
    )
