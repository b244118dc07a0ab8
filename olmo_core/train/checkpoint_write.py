"""Writing one rank's slices as safetensors objects, letting go of each slice once it is written."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from olmo_core.artifacts.manifest import StoredObject
from olmo_core.artifacts.output import Output
from olmo_core.storage import Storage
from olmo_core.train.checkpoint_format import OBJECT_BYTES, Slice, StoredTensor, write_file
from olmo_core.train.checkpoint_tensors import HostSlice


@dataclass(frozen=True, kw_only=True)
class Written:
    """What one rank has stored."""

    objects: tuple[StoredObject, ...]
    slices: tuple[tuple[str, str, tuple[int, ...], Slice], ...]
    """Tensor, element type, whole shape, slice."""
    cpu_seconds: float


def write_slices(storage: Storage, folder: str, rank: int, slices: list[HostSlice]) -> Written:
    """Write slices, in their order, as `rank-{rank}-{number}.safetensors` of about 1 GiB each; the list is empty then."""
    began = time.thread_time()
    output = Output(storage, folder)
    found: list[tuple[str, str, tuple[int, ...], Slice]] = []
    for number, pack in enumerate(_packs(slices)):
        key = f"rank-{rank:05d}-{number:03d}"
        facts = [(one.tensor, one.dtype, one.whole, one.offset, tuple(one.data.shape), one.key) for one in pack]
        entries = [(name, dtype, shape) for _, dtype, _, _, shape, name in facts]
        with output.raw(key, ".safetensors", len(pack)) as handle:
            places = write_file(handle, entries, _contents(pack))
        for (tensor, dtype, whole, offset, shape, name), (begin, end, sha256) in zip(facts, places, strict=True):
            part = Slice(
                offset=offset, shape=shape, object=f"{key}.safetensors", key=name, begin=begin, end=end, sha256=sha256
            )
            found.append((tensor, dtype, whole, part))
    return Written(objects=tuple(output.objects), slices=tuple(found), cpu_seconds=time.thread_time() - began)


def merged(parts: Iterable[Written]) -> dict[str, StoredTensor]:
    """Return the tensors that the slices of all ranks make up, by name."""
    heads: dict[str, tuple[str, tuple[int, ...]]] = {}
    slices: dict[str, list[Slice]] = {}
    for tensor, dtype, whole, part in (one for written in parts for one in written.slices):
        heads[tensor] = (dtype, whole)
        slices.setdefault(tensor, []).append(part)
    return {
        name: StoredTensor(dtype=dtype, shape=whole, slices=tuple(slices[name]))
        for name, (dtype, whole) in heads.items()
    }


def _packs(slices: list[HostSlice]) -> Iterator[list[HostSlice]]:
    """Yield the slices in packs of about 1 GiB, taking them out of the list."""
    slices.reverse()
    while slices:
        pack = [slices.pop()]
        size = pack[0].bytes
        while slices and size + slices[-1].bytes <= OBJECT_BYTES:
            size += slices[-1].bytes
            pack.append(slices.pop())
        yield pack


def _contents(pack: list[HostSlice]) -> Iterator[memoryview]:
    """Yield the bytes of each slice, letting go of the one before."""
    pack.reverse()
    while pack:
        yield pack.pop().content()
