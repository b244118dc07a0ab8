"""The tokens of a run as chunks of one length: memory-mapped files, of a tokens artifact or made elsewhere.

Nothing here needs torch or numba, so that inspection reads the same chunks as training does.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.layout import NPY
from olmo_core.curation.splits import TRAIN, refuse_held_out, split_named
from olmo_core.errors import InputError, IntegrityError, RecipeError
from olmo_core.train.chunks import Chunks, OpenFile
from olmo_core.train.run_file import RunFile, TokenFile
from olmo_core.train.token_files import Wanted, default_cache, local_files

DTYPES = ("uint8", "uint16", "uint32", "uint64")
"""Types that ids may have."""
_OPEN_FILES = 256
"""Files mapped at the same time: each map holds a file descriptor, and 1,024 is a usual limit."""
At = Callable[[str], None]
"""Is told what is being done (Watch.at)."""
_LOOKED_AT = 1024
"""Chunks whose ids are compared with the vocabulary when the tokens are opened; all are when they are used."""


class TokenDataset(Chunks):
    """Chunks that can be read. Every method takes numbers of chunks, from 0 to `chunks`."""

    def __init__(
        self,
        files: Sequence[OpenFile],
        *,
        sequence_length: int,
        vocabulary: int,
        end_of_text_id: int,
        what: str = "tokens",
    ) -> None:
        """Raise InputError when an id of the chunks looked at is not below the vocabulary; nothing else is read."""
        super().__init__(files, sequence_length=sequence_length)
        self.vocabulary, self.end_of_text_id, self.what = vocabulary, end_of_text_id, what
        self.masked = any(file.label_mask for file in self.files)
        """Whether there are label masks."""
        self._maps: OrderedDict[tuple[str, str], npt.NDArray[Any]] = OrderedDict()
        step = max(1, self.chunks // _LOOKED_AT)
        for first in range(0, self.chunks, 64 * step):
            self.rows(np.arange(first, min(first + 64 * step, self.chunks), step))

    def chunk(self, number: int) -> npt.NDArray[np.int64]:
        """Return the ids (T,) of a chunk."""
        row: npt.NDArray[np.int64] = self.rows(np.array([number]))[0]
        return row

    def rows(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the ids (n, T) of chunks. Raises InputError, naming file and position, for ids not below the vocabulary."""
        out = np.empty((len(numbers), self.sequence_length), np.int64)
        for file, mine, local in self._by_file(numbers):
            out[mine] = self._map(file.path, file.dtype, file)[local]
        # Ids of uint64 from 2^63 on have become negative.
        if len(numbers) and (int(out.max()) >= self.vocabulary or int(out.min()) < 0):
            self._refuse(numbers, out)
        return out

    def label_masks(self, numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Say for each token (n, T) of chunks whether it is a target; all are where a file has no mask."""
        out = np.ones((len(numbers), self.sequence_length), bool)
        for file, mine, local in self._by_file(numbers):
            if file.label_mask is not None:
                out[mine] = self._map(file.label_mask, "uint8", file)[local]  # any byte but 0 is true
        return out

    def _by_file(self, numbers: npt.NDArray[np.int64]) -> Sequence[tuple[OpenFile, Any, npt.NDArray[np.int64]]]:
        if len(numbers) and (int(numbers.min()) < 0 or int(numbers.max()) >= self.chunks):
            raise IndexError(f"chunks {numbers.min()} to {numbers.max()} of {self.chunks}")
        owners = np.searchsorted(self.starts, numbers, side="right") - 1
        local = numbers - self.starts[owners]
        found = np.unique(owners)
        if len(found) == 1:
            return [(self.files[int(found[0])], slice(None), local)]
        return [
            (self.files[int(one)], mine, local[mine]) for one in found if len(mine := np.flatnonzero(owners == one))
        ]

    def _map(self, path: str, dtype: str, file: OpenFile) -> npt.NDArray[Any]:
        """Return a file's chunks (n, T), mapped; those used last stay open."""
        found = self._maps.get((path, dtype))
        if found is None:
            shape = (file.tokens // self.sequence_length, self.sequence_length)
            try:
                found = np.memmap(path, dtype, mode="r", shape=shape).view(np.ndarray)
            except (OSError, ValueError) as error:
                raise InputError(
                    f"token file {path} can no longer be mapped: {error}; put it back as it was"
                ) from error
            self._maps[path, dtype] = found
            if len(self._maps) > _OPEN_FILES:
                self._maps.popitem(last=False)
        else:
            self._maps.move_to_end((path, dtype))
        return found

    def _refuse(self, numbers: npt.NDArray[np.int64], rows_BT: npt.NDArray[np.int64]) -> None:
        row, position = (int(found[0]) for found in np.nonzero((rows_BT >= self.vocabulary) | (rows_BT < 0)))
        index, first = self.locate(int(numbers[row]))
        file = self.files[index]
        raise InputError(
            f"{self.what}: token {first + position:,} of {file.name} ({file.path}) has id {int(rows_BT[row, position]) % 2**64}, but "
            f"model.vocabulary is {self.vocabulary}; raise model.vocabulary and model.embedding_rows to the tokenizer's, or give "
            f"tokens of this model's tokenizer (and their right dtype, here {file.dtype})"
        )


def _unheard(doing: str) -> None:
    """Nobody watches."""


def open_tokens(store: ArtifactStore, run: RunFile, *, verify: bool = True, at: At = _unheard) -> TokenDataset:
    """Return what a run trains on.

    Sizes are always checked; with `verify` the digests too, of each file once on a machine while its time and size stay the
    same; `at` is told of every file. Raises InputError for files that are missing, cut or changed, for a held-out split, and for ids that the model
    has not; RecipeError for an artifact that holds no tokens.
    """
    manifest = store.manifest(run.tokens)
    if run.tokens.kind == Kind.INVENTORY:
        files = outside_files(store, manifest, run, verify=verify, at=at)
    else:
        if run.files:
            raise RecipeError(f"files: given beside {run.tokens}; they need an inventory artifact as tokens")
        refuse_held_out(manifest)
        files = _packed(store, manifest, run, verify, at)
    return _dataset(files, run, str(run.tokens))


def held_out_batches(store: ArtifactStore, run: RunFile, *, verify: bool = True, at: At = _unheard) -> TokenDataset:
    """Return the chunks of a run's held-out tokens, on which its loss is measured and nothing is trained.

    Raises InputError when `held_out` is no held-out split, as its loss would say nothing, or has less than one chunk.
    """
    if run.held_out is None:
        raise RecipeError("held_out: the run names no held-out tokens; give the tokens artifact of a held-out split")
    manifest = store.manifest(run.held_out)
    if split_named(manifest) == TRAIN:
        raise InputError(
            f"held_out: {manifest.ref} is no held-out split but may be trained on; give one, e.g. "
            f"{run.held_out.kind}/{run.held_out.name}-validation"
        )
    dataset = _dataset(_packed(store, manifest, run, verify, at), run, str(run.held_out))
    if dataset.chunks == 0:
        raise InputError(
            f"held_out: {manifest.ref} has {dataset.tokens:,} tokens, and no file of it a whole chunk of data.sequence_length, "
            f"{dataset.sequence_length}; hold out more, or train without held_out"
        )
    return dataset


def _dataset(files: Sequence[OpenFile], run: RunFile, what: str) -> TokenDataset:
    model = run.recipe.model
    return TokenDataset(
        files,
        sequence_length=run.recipe.data.sequence_length,
        vocabulary=model.vocabulary,
        end_of_text_id=model.end_of_text_id,
        what=what,
    )


def _cache(run: RunFile) -> Path:
    return Path(run.resources.cache).expanduser() if run.resources.cache else default_cache()


def packed_shards(manifest: Manifest) -> list[OpenFile]:
    """Return the token files of a tokens artifact, in order, their paths being those in the store."""
    if manifest.ref.kind != Kind.TOKENS:
        raise RecipeError(
            f"tokens: {manifest.ref} is no tokens artifact; `olmo artifacts ls tokens` lists those there are"
        )
    shards = []
    for one in manifest.objects:
        if one.key.endswith(NPY):
            dtype = checked_dtype(str(one.meta.get("dtype", "uint16")), f"{manifest.ref}: {one.key}")
            tokens = one.size // np.dtype(dtype).itemsize
            shards.append(OpenFile(name=one.key, path=one.path, sha256=one.sha256, dtype=dtype, tokens=tokens))
    return shards


def _packed(store: ArtifactStore, manifest: Manifest, run: RunFile, verify: bool, at: At) -> list[OpenFile]:
    shards = packed_shards(manifest)
    sizes = {one.path: one.size for one in manifest.objects}
    wanted = [
        Wanted(
            name=f"{manifest.ref}: {s.name}", path=s.path, size=sizes[s.path], sha256=s.sha256, storage=store.storage
        )
        for s in shards
    ]
    paths = local_files(wanted, _cache(run), verify=verify, at=at)
    return [OpenFile(**{**shard.__dict__, "path": path}) for shard, path in zip(shards, paths, strict=True)]


def outside_files(
    store: ArtifactStore, manifest: Manifest, run: RunFile, *, verify: bool, at: At = _unheard
) -> list[OpenFile]:
    """Return files made elsewhere, which must be those of the inventory, in its order: that is their identity."""
    rows = outside_rows(store, manifest.ref)
    given = [
        pair for file in run.files for pair in ((file.path, file.sha256), (file.label_mask, file.label_mask_sha256))
    ]
    listed = [sha256 for path, sha256 in given if path is not None]
    if listed != [row[2] for row in rows]:
        raise IntegrityError(
            f"files: they are not those of {manifest.ref}, in its order ({len(listed)} given, {len(rows)} listed); start the run anew, "
            f"so that the inventory is of these files"
        )
    present = [path for path, _ in given if path is not None]
    wanted = [
        Wanted(name=name, path=path, size=size, sha256=sha256)
        for path, (name, size, sha256) in zip(present, rows, strict=True)
    ]
    local = iter(zip(local_files(wanted, _cache(run), verify=verify, at=at), wanted, strict=True))
    return [_opened(file, local) for file in run.files]


def _opened(file: TokenFile, local: Iterator[tuple[str, Wanted]]) -> OpenFile:
    """Return one file, taking it, and its label mask, from the local ones."""
    dtype = checked_dtype(file.dtype, f"files: {file.path}")
    path, wanted = next(local)
    mask = next(local)[0] if file.label_mask is not None else None
    tokens, rest = divmod(wanted.size, np.dtype(dtype).itemsize)
    if rest:
        raise InputError(
            f"token file {path}: {wanted.size:,} bytes are no whole number of {dtype}; it was cut, or has another dtype"
        )
    if mask is not None and os.stat(mask).st_size != tokens:
        raise InputError(
            f"label mask {mask} has {os.stat(mask).st_size:,} bytes, but {path} has {tokens:,} tokens: it must have one boolean of a byte for each"
        )
    return OpenFile(
        name=wanted.name,
        path=path,
        sha256=file.sha256,
        dtype=dtype,
        tokens=tokens,
        label_mask=mask,
        label_mask_sha256=file.label_mask_sha256,
    )


def outside_rows(store: ArtifactStore, inventory: ArtifactRef) -> list[tuple[str, int, str]]:
    """Return name, size and sha256 of the files of an inventory, in order: each file, then its label mask where it has one."""
    from olmo_core.documents.shards import read_shard  # here: olmo_core.train.bench reads chunks without pyarrow

    table = read_shard(store.storage, store.manifest(inventory).object("files").path).to_pydict()
    return list(zip(table["name"], table["size"], table["sha256"], strict=True))


def checked_dtype(dtype: str, what: str) -> str:
    """Return the name of a type that ids may have; raise InputError for another."""
    if dtype not in DTYPES:
        raise InputError(f"{what}: ids of type {dtype!r}; there are {', '.join(DTYPES)}")
    return dtype
