"""What a checkpoint's objects look like: safetensors files of slices, and one `index.json` that says where all are.

A tensor is cut into slices: boxes given by an offset and a shape in the whole tensor, no larger than 64 MiB, so that who
needs a part reads little more than that part, and still can check it. Every slice has a sha256 of its own. Slices are
packed into objects of about 1 GiB. docs/checkpoints.md describes the format for other readers. Nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import IO, Any

from olmo_core.errors import IntegrityError
from olmo_core.train.state import TrainState

FORMAT = "olmo-flows checkpoint"
VERSION = 1
INDEX = "index.json"
"""Key of the index among the manifest's objects."""
SLICE_BYTES = 64 << 20
"""Most bytes of a slice; one row may be more."""
OBJECT_BYTES = 1 << 30
"""Bytes at which the next slice begins another object."""
ITEM_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""safetensors' names of element types."""

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Offset and shape of a part of a tensor."""


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of a tensor and where it is stored."""

    offset: tuple[int, ...]
    """Of its first element in the whole tensor."""
    shape: tuple[int, ...]
    object: str
    """Key of an object of the artifact."""
    key: str
    """Name within that safetensors file."""
    begin: int
    """First byte in the object, counted from its very beginning."""
    end: int
    """Byte behind the last one."""
    sha256: str
    """Of these bytes."""

    def to_json(self) -> dict[str, Any]:
        """Return the slice as JSON values."""
        return {**self.__dict__, "offset": list(self.offset), "shape": list(self.shape)}


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """A whole tensor of a checkpoint."""

    dtype: str
    """safetensors' name: F32, BF16, ..."""
    shape: tuple[int, ...]
    slices: tuple[Slice, ...]
    """They cover the tensor; none overlap."""

    def to_json(self) -> dict[str, Any]:
        """Return the tensor as JSON values."""
        return {"dtype": self.dtype, "shape": list(self.shape), "slices": [one.to_json() for one in self.slices]}


@dataclass(frozen=True, kw_only=True)
class Index:
    """What `index.json` says."""

    state: TrainState
    world: int
    """Ranks that saved; any number may load."""
    tensors: Mapping[str, StoredTensor]
    """By name: `model.` and a parameter's name, or a state of the optimizer and a parameter's name."""

    def to_bytes(self) -> bytes:
        """Return the index as JSON, a line for each tensor."""
        head = json.dumps(
            {"format": FORMAT, "version": VERSION, "world": self.world, "state": self.state.to_json()},
            sort_keys=True,
            ensure_ascii=False,
        )
        lines = (
            f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(one.to_json(), ensure_ascii=False)}"
            for name, one in sorted(self.tensors.items())
        )
        body = ",\n".join(lines)
        return f'{head[:-1]}, "tensors": {{\n{body}\n}}}}\n'.encode()

    @classmethod
    def from_bytes(cls, raw: bytes, where: str) -> Index:
        """Return the index that `to_bytes` wrote. Raises IntegrityError when it is not one, or its slices leave gaps."""
        try:
            data = json.loads(raw)
            if (data["format"], data["version"]) != (FORMAT, VERSION):
                raise IntegrityError(
                    f"{where}: format {data['format']!r} version {data['version']}; this olmo-flows reads {FORMAT!r} {VERSION}: upgrade it"
                )
            tensors = {name: _tensor(one) for name, one in data["tensors"].items()}
            found = cls(state=TrainState.from_json(data["state"], where), world=int(data["world"]), tensors=tensors)
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"{where}: not a checkpoint's index ({type(error).__name__}: {error}); take an earlier checkpoint"
            ) from error
        for name, tensor in found.tensors.items():
            check_cover(name, tensor, where)
        return found


def _tensor(data: Mapping[str, Any]) -> StoredTensor:
    slices = tuple(Slice(**{**s, "offset": tuple(s["offset"]), "shape": tuple(s["shape"])}) for s in data["slices"])
    return StoredTensor(dtype=data["dtype"], shape=tuple(data["shape"]), slices=slices)


def check_cover(name: str, tensor: StoredTensor, where: str) -> None:
    """Raise IntegrityError when the slices of a tensor do not make it up: a rank's part is missing, doubled or cut."""
    problem = ""
    if tensor.dtype not in ITEM_BYTES:
        problem = f"unknown element type {tensor.dtype!r}"
    elif sum(prod(one.shape) for one in tensor.slices) != prod(tensor.shape):
        problem = f"its slices hold {sum(prod(s.shape) for s in tensor.slices):,} of {prod(tensor.shape):,} elements"
    elif any(one.end - one.begin != prod(one.shape) * ITEM_BYTES[tensor.dtype] for one in tensor.slices):
        problem = "a slice has not the bytes of its shape"
    elif any(not inside(one, tensor.shape) for one in tensor.slices):
        problem = "a slice lies outside of it"
    elif len({one.offset for one in tensor.slices}) != len(tensor.slices):
        problem = "two slices begin at the same place"
    if problem:
        raise IntegrityError(f"{where}: tensor {name}: {problem}; take an earlier checkpoint")


def inside(part: Slice, shape: Sequence[int]) -> bool:
    """Say whether a slice lies within a tensor of a shape."""
    return len(part.shape) == len(part.offset) == len(shape) and all(
        first >= 0 and first + size <= whole for first, size, whole in zip(part.offset, part.shape, shape, strict=True)
    )


def overlap(one: Box, other: Box) -> Box | None:
    """Return the part that two boxes share, None where they share no element."""
    offset = tuple(max(a, b) for a, b in zip(one[0], other[0], strict=True))
    ends = (min(a + m, b + n) for a, m, b, n in zip(one[0], one[1], other[0], other[1], strict=True))
    shape = tuple(end - first for end, first in zip(ends, offset, strict=True))
    return (offset, shape) if all(size > 0 for size in shape) else None


def row_blocks(shape: Sequence[int], item_bytes: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield the first row and number of rows of blocks of at most so many bytes, at least a row each."""
    row = prod(shape[1:]) * item_bytes
    step = max(1, most // max(row, 1))
    for first in range(0, shape[0], step):
        yield first, min(step, shape[0] - first)


def header(entries: Iterable[tuple[str, str, Sequence[int]]]) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a safetensors header for tensors (key, dtype, shape) in this order, and the bytes of each in the file."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    places: list[tuple[int, int]] = []
    at = 0
    for key, dtype, shape in entries:
        size = prod(shape) * ITEM_BYTES[dtype]
        table[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        places.append((at, at + size))
        at += size
    text = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the data begins at a multiple of 8
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, [(start + first, start + end) for first, end in places]


def write_file(
    handle: IO[bytes], entries: Sequence[tuple[str, str, Sequence[int]]], contents: Iterable[memoryview]
) -> list[tuple[int, int, str]]:
    """Write a safetensors file piece by piece; returns first byte, end and sha256 of each tensor.

    `contents` yields the bytes of the entries in order; each is written before the next is asked for, so that the caller
    can let go of it.
    """
    head, places = header(entries)
    handle.write(head)
    done: list[tuple[int, int, str]] = []
    for (begin, end), content in zip(places, contents, strict=True):
        handle.write(content)
        done.append((begin, end, hashlib.sha256(content).hexdigest()))
    return done
