"""Headerless token files made elsewhere as the input of a run: listed, checked, and identified by an inventory.

The trainer gets the paths in RUN.json and checks them against the inventory artifact; it needs nothing of this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from olmo_core.artifacts.ref import check_name
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.steps.inputs import Inventory, inventory_of
from olmo_core.documents.access import reading
from olmo_core.documents.files import SourceFile, is_local
from olmo_core.documents.listing import list_files
from olmo_core.errors import InputError, RecipeError
from olmo_core.train.dataset import checked_dtype
from olmo_core.train.run_file import TokenFile

_NUMPY = b"\x93NUMPY"
"""How a .npy file with a header begins; those of OLMo and of our tokens artifacts have none."""


@dataclass(frozen=True, kw_only=True)
class OutsideTokens:
    """Which files of token ids a run reads, in the order of their chunks."""

    name: str
    """Of the inventory."""
    paths: tuple[str, ...]
    """Paths or glob patterns of this machine: in this order, and the matches of each pattern by name."""
    label_masks: tuple[str, ...] = ()
    """The same for files of one boolean (one byte) for each token; as many files as `paths` gives, in the same order."""
    dtype: str = "uint16"
    """numpy's name of the ids' type: uint8, uint16, uint32 or uint64."""
    root: str | None = None
    """Folder that names are relative to; None: the longest one that all have in common."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class OutsideInventory:
    """The files as they are now."""

    inventory: Inventory
    """Its step writes the artifact that is a run's `tokens`; `inputs.remember` saves the next start from hashing again."""
    files: tuple[TokenFile, ...]
    """A run's `files`."""


def outside_inventory(
    store: ArtifactStore,
    wanted: OutsideTokens,
    *,
    rehash: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> OutsideInventory:
    """List, check and digest the files; those that an earlier run saw at the same size and time are not read again.

    Raises RecipeError for settings that do not fit together; InputError when a pattern matches nothing, a file has a numpy
    header or is no whole number of ids, or a mask has not one byte for each token.
    """
    check_name(wanted.name, "name of the token files")
    checked_dtype(wanted.dtype, f"token files {wanted.name}")
    both = list_files(wanted.name, [*wanted.paths, *wanted.label_masks], wanted.root)
    root = both[0].url.removesuffix(both[0].name).rstrip("/") or "/"
    tokens = _listed(wanted.name, wanted.paths, root)
    masks = _listed(wanted.name, wanted.label_masks, root)
    if masks and len(masks) != len(tokens):
        raise InputError(
            f"token files {wanted.name}: {len(tokens)} files of ids, {len(masks)} label masks; there must be one mask for each file"
        )
    for file in tokens:
        _check(file, wanted.dtype)
    width = np.dtype(wanted.dtype).itemsize
    for file, mask in zip(tokens, masks, strict=False):
        if mask.size * width != file.size:
            raise InputError(
                f"label mask {mask.url} has {mask.size:,} bytes, but {file.url} has {file.size // width:,} tokens of {wanted.dtype}; "
                f"it must have one byte for each token, and the masks the order of the files"
            )
    ordered = list(chain.from_iterable(zip(tokens, masks, strict=True))) if masks else tokens
    identity = {"kind": "token-files", "dtype": wanted.dtype, "label_masks": bool(masks)}
    inventory = inventory_of(store, wanted.name, identity, ordered, rehash=rehash, progress=progress)
    digests = inventory.sha256
    files = [
        TokenFile(
            path=file.url,
            sha256=digests[file.name],
            dtype=wanted.dtype,
            label_mask=masks[i].url if masks else None,
            label_mask_sha256=digests[masks[i].name] if masks else None,
        )
        for i, file in enumerate(tokens)
    ]
    return OutsideInventory(inventory=inventory, files=tuple(files))


def _listed(name: str, patterns: Sequence[str], root: str) -> list[SourceFile]:
    """Return the matches of the patterns one after the other: their order is that of the chunks."""
    found: dict[str, SourceFile] = {}
    for pattern in patterns:
        for file in list_files(name, [pattern], root):
            if file.name in found:
                raise RecipeError(
                    f"token files {name}: {pattern} matches {file.url} once more; let each file match one pattern"
                )
            if not is_local(file.url):
                raise RecipeError(
                    f"token files {name}: {file.url} is not on this machine; copy it to a disk that the trainer sees"
                )
            found[file.name] = file
    return list(found.values())


def _check(file: SourceFile, dtype: str) -> None:
    with reading(file.url, "read"), open(file.url, "rb") as handle:
        head = handle.read(len(_NUMPY))
    if head == _NUMPY:
        raise InputError(
            f"{file.url} has a numpy header, which would be read as tokens; write it without: numpy.load(path).tofile(other)"
        )
    if rest := file.size % np.dtype(dtype).itemsize:
        raise InputError(
            f"{file.url}: {file.size:,} bytes are no whole number of {dtype} ({rest} over); it was cut, or dtype is another"
        )
