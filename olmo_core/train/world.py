"""The processes of a run: who this one is, on which device, and what all of them agree on.

Under torchrun each process finds its rank in the environment; alone it is rank 0 of 1, by the same code. Collectives on
tensors of the device go over NCCL or gloo. What the host processes tell each other goes over gloo in a group of its own,
so that a decision never waits for a device.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import HashStore, PrefixStore, Store  # type: ignore[attr-defined]
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.rendezvous import rendezvous

from olmo_core.errors import RecipeError
from olmo_core.train.run_file import TrainResources

_MARGIN = 60.0
"""Seconds by which collectives wait longer than `hang_seconds`: the watch, which knows names, is to speak first."""


@dataclass(frozen=True, kw_only=True)
class World:
    """All processes of a run, as one of them sees them."""

    rank: int
    size: int
    local_rank: int
    """Number of this process on its machine."""
    device: torch.device
    mesh: DeviceMesh
    store: Store
    """Small values by key, on a connection of its own."""
    hosts: Any
    """The process group of `agree`."""

    def agree(self, values: Sequence[int]) -> list[int]:
        """Return the sums over all ranks of some whole numbers; blocks until all have asked, not until devices are done."""
        tensor = torch.tensor(values, dtype=torch.int64)
        dist.all_reduce(tensor, group=self.hosts)
        return [int(value) for value in tensor.tolist()]

    def add_up(self, tensor: Tensor) -> Tensor:
        """Return a device tensor summed over all ranks, in place; queued on the device."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def leave(self) -> None:
        """Close the process groups."""
        dist.destroy_process_group()


def choose_device(resources: TrainResources, local_rank: int) -> torch.device:
    """Return this process's device. Raises RecipeError, naming the field, when there is no GPU for it."""
    if resources.device == "cpu" or (resources.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        raise RecipeError(
            f"resources.device: cuda, but torch {torch.__version__} sees no GPU here"
            f"{'' if seen is None else f' (CUDA_VISIBLE_DEVICES={seen!r})'}; start the run on a machine with one, with "
            f"its driver and a CUDA build of torch, or set resources.device to cpu"
        )
    if local_rank >= torch.cuda.device_count():
        raise RecipeError(
            f"process {local_rank} of this machine has no GPU: there are {torch.cuda.device_count()}; start at most that "
            f"many processes here (torchrun --nproc-per-node)"
        )
    return torch.device("cuda", local_rank)


def join(resources: TrainResources) -> World:
    """Meet the other processes and return the world; the first thing that a trainer does. Leave it with `leave`."""
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = choose_device(resources, local_rank)
    limit = datetime.timedelta(seconds=resources.hang_seconds + _MARGIN)
    store: Store = HashStore()
    if "WORLD_SIZE" in os.environ:
        store, rank, size = next(iter(rendezvous("env://", timeout=limit)))  # type: ignore[no-untyped-call]
    own = store if size == 1 else store.clone()  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        backend="cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        store=PrefixStore("training", store),
        rank=rank,
        world_size=size,
        timeout=limit,
        device_id=device if device.type == "cuda" else None,
    )
    return World(
        rank=rank,
        size=size,
        local_rank=local_rank,
        device=device,
        mesh=init_device_mesh(device.type, (size,)),
        store=PrefixStore("watch", own),
        hosts=dist.new_group(backend="gloo", timeout=limit),
    )
