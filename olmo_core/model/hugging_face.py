"""Models to and from Hugging Face, tensor by tensor, so that they may be larger than memory.

An export is written beside its folder, checked, and renamed into place: what is there is whole and was checked.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from olmo_core.errors import InputError, IntegrityError
from olmo_core.model.config import ModelRecipe
from olmo_core.model.hugging_face_check import logit_difference
from olmo_core.model.hugging_face_files import (
    CONFIG,
    SHARD_BYTES,
    WeightFiles,
    read_configuration,
    write_configuration,
    write_tokenizer,
    write_weights,
)
from olmo_core.model.hugging_face_names import Source, architecture, from_hugging_face, recipe_of, to_hugging_face
from olmo_core.model.transformer import Transformer

log = logging.getLogger(__name__)

TOLERANCE = 1e-5
"""Largest difference of logits relative to the largest logit. It is 0 for published shapes; a matrix product may round
otherwise where a width is no multiple of 16."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What an export wrote."""

    folder: Path
    bytes: int
    """Of the weights."""
    difference: float | None
    """Largest difference between the logits of our model and those of transformers' with the files written; None where
    transformers is not installed, so that this was not checked."""


def model_source(model: Transformer) -> Source:
    """Return the source of a model in memory."""
    parameters = dict(model.named_parameters())
    return lambda name: parameters[name].detach()


def export_hugging_face(
    recipe: ModelRecipe,
    source: Source,
    folder: Path,
    *,
    tokenizer: Path | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    shard_bytes: int = SHARD_BYTES,
) -> Exported:
    """Write a model as a Hugging Face folder; `source` gives our tensors by name, one at a time.

    Checked before it is published: reading the files back gives the source's tensors (rounded to `dtype`) exactly, and
    transformers, where it is installed, computes the same logits from them as we do. Raises IntegrityError otherwise,
    RecipeError for a model that has no Hugging Face form, InputError where the folder is not empty.
    """
    architecture(recipe)
    kind: torch.dtype = getattr(torch, dtype)
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and not an empty folder; choose another, or remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        size = write_weights(work, to_hugging_face(recipe, source), kind, shard_bytes)
        write_configuration(work, recipe, kind)
        if tokenizer is not None:
            write_tokenizer(work, tokenizer, recipe)
        _check_tensors(work, recipe, source, kind)
        difference = _check_logits(work, recipe, source, kind)
        _usual_modes(work)
        if folder.exists():
            folder.rmdir()
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Exported(folder=folder, bytes=size, difference=difference)


def _usual_modes(work: Path) -> None:
    """Give the weights and the folder the modes that the umask says, as config.json has them: both began as private."""
    mode = stat.S_IMODE((work / CONFIG).stat().st_mode)
    for weights in work.glob("*.safetensors"):
        weights.chmod(mode)
    work.chmod(mode | 0o100 | (mode & 0o044) >> 2)


def open_hugging_face(folder: Path) -> tuple[ModelRecipe, Iterator[tuple[str, Tensor]]]:
    """Return the recipe of a Hugging Face folder and its tensors under our names, read one after the other."""
    recipe = recipe_of(read_configuration(folder), str(folder / "config.json"))
    return recipe, from_hugging_face(recipe, WeightFiles(folder))


def load_hugging_face(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Transformer:
    """Return the model of a Hugging Face folder. Raises InputError where files are missing, damaged or of another model."""
    recipe, tensors = open_hugging_face(folder)
    with torch.device("meta"):
        model = Transformer(recipe)
    model = model.to(dtype).to_empty(device=device)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in tensors:
            if tensor.shape != parameters[name].shape:
                expected = list(parameters[name].shape)
                raise InputError(f"{folder}: {name} is {list(tensor.shape)}, config.json asks for {expected}")
            parameters[name].copy_(tensor)
    return model


def _check_tensors(work: Path, recipe: ModelRecipe, source: Source, dtype: torch.dtype) -> None:
    for name, tensor in from_hugging_face(recipe, WeightFiles(work)):
        expected = source(name).detach().to(device="cpu", dtype=dtype)
        # Bits, not values: a NaN equals itself here.
        if not torch.equal(tensor.view(torch.uint8), expected.contiguous().view(torch.uint8)):
            raise IntegrityError(f"{name} read back from {work} is not what was written; nothing was published")


def _check_logits(work: Path, recipe: ModelRecipe, source: Source, dtype: torch.dtype) -> float | None:
    if importlib.util.find_spec("transformers") is None:
        log.warning("transformers is not installed: its logits were not compared with ours")
        return None
    difference, largest = logit_difference(work, recipe, lambda name: source(name).to(dtype))
    if not difference <= TOLERANCE * largest:  # also where it is NaN
        raise IntegrityError(
            f"transformers' logits differ from ours by {difference:.3g} (largest logit {largest:.3g}); nothing was "
            "published. Either the weights are not finite, or this version of transformers computes something else"
        )
    return difference
