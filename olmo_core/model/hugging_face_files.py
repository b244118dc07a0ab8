"""A folder in Hugging Face's layout: safetensors shards with an index, config, generation config, tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from olmo_core.errors import InputError
from olmo_core.model.config import ModelRecipe
from olmo_core.model.hugging_face_names import configuration

SHARD_BYTES = 2 << 30
"""Largest shard, and so about the memory that writing takes; a tensor that is larger gets one of its own."""
WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"


def write_weights(
    folder: Path, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype, shard_bytes: int = SHARD_BYTES
) -> int:
    """Write named tensors as they come, in shards; returns their bytes. One shard has no index, as transformers does it."""
    shards: list[list[str]] = []
    pending: dict[str, Tensor] = {}
    size = total = 0

    def flush() -> None:
        nonlocal size
        if pending:
            save_file(pending, folder / f"shard-{len(shards):05d}", metadata={"format": "pt"})
            shards.append(list(pending))
            pending.clear()
            size = 0

    for name, tensor in tensors:
        # A copy of its own: a slice of a fused matrix would hold the whole matrix in memory.
        whole = tensor.detach().to(device="cpu", dtype=dtype, copy=True).contiguous()
        if size + whole.nbytes > shard_bytes:
            flush()
        pending[name] = whole
        size, total = size + whole.nbytes, total + whole.nbytes
    flush()
    if len(shards) == 1:
        (folder / "shard-00000").rename(folder / WEIGHTS)
        return total
    places = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        (folder / f"shard-{number:05d}").rename(folder / file)
        places.update(dict.fromkeys(names, file))
    _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
    return total


def write_configuration(folder: Path, recipe: ModelRecipe, dtype: torch.dtype) -> None:
    """Write config.json and generation_config.json."""
    _write_json(folder / CONFIG, configuration(recipe, dtype))
    generation = {"_from_model_config": True, "eos_token_id": recipe.end_of_text_id, "pad_token_id": recipe.padding_id}
    _write_json(folder / "generation_config.json", generation)


def write_tokenizer(folder: Path, tokenizer: Path, recipe: ModelRecipe) -> None:
    """Copy a `tokenizers` file and write how transformers is to use it: no token is added in front or behind.

    Raises InputError where the file has no tokens of the recipe's end-of-text and padding ids.
    """
    file = json.loads(tokenizer.read_text(encoding="utf-8"))
    by_id = {one["id"]: one["content"] for one in file.get("added_tokens", [])}
    by_id |= {number: text for text, number in file["model"]["vocab"].items() if number not in by_id}
    for field, number in (("end_of_text_id", recipe.end_of_text_id), ("padding_id", recipe.padding_id)):
        if number not in by_id:
            raise InputError(
                f"tokenizer {tokenizer} has no token {number}, the model's {field}; give the tokenizer it was trained with"
            )
    special = {"eos_token": by_id[recipe.end_of_text_id], "pad_token": by_id[recipe.padding_id]}
    shutil.copyfile(tokenizer, folder / "tokenizer.json")
    _write_json(folder / "special_tokens_map.json", special)
    settings = {
        "tokenizer_class": "GPTNeoXTokenizerFast",
        "add_bos_token": False,
        "add_eos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": recipe.context,
        "bos_token": None,
        "unk_token": None,
    }
    _write_json(folder / "tokenizer_config.json", {**settings, **special})


def read_configuration(folder: Path) -> dict[str, Any]:
    """Return the values of config.json. Raises InputError where there is none."""
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; give a folder in Hugging Face's layout") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds {type(values).__name__}, expected an object")
    return values


class WeightFiles:
    """The tensors of a folder by name, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        """Find which file holds what. Raises InputError where no safetensors are there, or an index names a missing file."""
        self.folder = folder
        try:
            self.places = self._find()
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{folder}: {WEIGHTS} or {INDEX} cannot be read ({error}); fetch the model again"
            ) from error

    def _find(self) -> dict[str, str]:
        folder = self.folder
        if (folder / INDEX).is_file():
            places: dict[str, str] = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
            missing = sorted(file for file in set(places.values()) if not (folder / file).is_file())
            if missing:
                raise InputError(f"{folder}: {INDEX} names {missing[0]}, which is not there; fetch the model again")
            return places
        if (folder / WEIGHTS).is_file():
            with safe_open(folder / WEIGHTS, framework="pt") as file:
                return dict.fromkeys(file.keys(), WEIGHTS)
        raise InputError(f"{folder} has neither {WEIGHTS} nor {INDEX}; only safetensors are read")

    def __call__(self, name: str) -> Tensor:
        """Return one tensor. Raises InputError where it is not there or its file is damaged."""
        if name not in self.places:
            raise InputError(f"{self.folder} has no tensor {name}; its config.json is of another model")
        path = self.folder / self.places[name]
        try:
            with safe_open(path, framework="pt") as file:
                tensor: Tensor = file.get_tensor(name)
                return tensor
        except (SafetensorError, OSError) as error:
            raise InputError(f"cannot read {name} of {path}: {error}; fetch the model again") from error


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
