"""A model's and an optimizer's tensors by name, and which part of each this rank holds.

Under FSDP2 a parameter is a DTensor: cut along its first dimension as `torch.chunk` cuts, so that the last ranks may hold
less, or nothing. A part that several ranks hold (a buffer, a scalar, the replicas of a hybrid mesh) is written by the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard

from olmo_core.errors import RecipeError
from olmo_core.train.checkpoint_format import ITEM_BYTES, SLICE_BYTES, Box, StoredTensor, row_blocks

MODEL = "model."
"""Beginning of the names of a model's tensors."""
_WRAPPERS = ("_orig_mod.", "_checkpoint_wrapped_module.", "_fsdp_wrapped_module.")
"""What torch.compile, activation checkpointing and FSDP1 put into names."""
DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(kw_only=True)
class HostSlice:
    """A copy, in host memory, of a part of a tensor that this rank writes."""

    tensor: str
    dtype: str
    whole: tuple[int, ...]
    """Shape of the whole tensor."""
    offset: tuple[int, ...]
    data: torch.Tensor

    @property
    def key(self) -> str:
        """Name within a file: the tensor's, and the row it begins at."""
        return f"{self.tensor}@{','.join(map(str, self.offset))}" if self.offset else self.tensor

    @property
    def bytes(self) -> int:
        """Size of the data."""
        return prod(self.data.shape) * ITEM_BYTES[self.dtype]

    def content(self) -> memoryview:
        """Return the bytes, without a copy."""
        return self.data.reshape(-1).view(torch.uint8).numpy().data


@dataclass(kw_only=True)
class Target:
    """Memory that a part of a stored tensor is read into."""

    name: str
    """Of the stored tensor."""
    shape: tuple[int, ...]
    """Of the whole tensor."""
    box: Box
    """The part that is wanted; it has the shape of `local`."""
    local: torch.Tensor
    found: StoredTensor | None = field(default=None)


def plain_name(name: str) -> str:
    """Return a parameter's name without what wrappers put into it."""
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def local_part(tensor: torch.Tensor, name: str) -> tuple[torch.Tensor, Box, bool]:
    """Return what this rank holds of a tensor, as plain tensor, its place in the whole, and whether this rank writes it.

    Raises RecipeError for a layout that is neither a cut nor a replica.
    """
    if not isinstance(tensor, DTensor):
        first = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        return tensor, ((0,) * tensor.dim(), tuple(tensor.shape)), first
    offset, shape = [0] * tensor.dim(), list(tensor.shape)
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None:
        raise RecipeError(f"{name} lies on a mesh without this rank; all ranks must hold the model")
    writes = True
    for dimension, (place, where) in enumerate(zip(tensor.placements, coordinate, strict=True)):
        if type(place) is Replicate:
            writes = writes and where == 0
        elif type(place) is Shard:
            chunk = -(-shape[place.dim] // tensor.device_mesh.size(dimension))
            first_row = min(where * chunk, shape[place.dim])
            offset[place.dim] += first_row
            shape[place.dim] = min(chunk, shape[place.dim] - first_row)
        else:
            raise RecipeError(
                f"{name} is laid out as {place}; checkpoints know cut (Shard) and whole (Replicate) tensors"
            )
    local = tensor.to_local()
    if tuple(local.shape) != tuple(shape):
        raise RecipeError(
            f"{name}: this rank holds {tuple(local.shape)}, expected {tuple(shape)} of {tuple(tensor.shape)}"
        )
    return local, (tuple(offset), tuple(shape)), writes


def named_tensors(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters and persistent buffers as `model.{name}`, and the optimizer's state as `{key}.{name}`.

    A scalar of the optimizer that is the same for all parameters (AdamW's `step`) comes once, as `{key}`.
    """
    for name, tensor in model.state_dict(keep_vars=True).items():
        yield MODEL + plain_name(name), tensor.detach()
    if optimizer is None:
        return
    scalars: dict[str, dict[str, torch.Tensor]] = {}
    for name, parameter in optimized(model, optimizer):
        for key, value in optimizer.state.get(parameter, {}).items():
            tensor = value if isinstance(value, torch.Tensor) else torch.tensor(value)
            if tensor.dim():
                yield f"{key}.{name}", tensor.detach()
            else:
                scalars.setdefault(key, {})[name] = tensor.detach().cpu()
    for key, by_name in scalars.items():
        values = list(by_name.values())
        if all(torch.equal(one, values[0]) for one in values):
            yield key, values[0]
        else:
            yield from ((f"{key}.{name}", one) for name, one in by_name.items())


def optimized(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of an optimizer with their names in the model."""
    names = {parameter: plain_name(name) for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter not in names:
                raise RecipeError(
                    f"the optimizer has a parameter of shape {tuple(parameter.shape)} that the model has not; make the "
                    f"optimizer after the model was sharded"
                )
            yield names[parameter], parameter


def host_copy(model: nn.Module, optimizer: torch.optim.Optimizer | None) -> list[HostSlice]:
    """Copy what this rank writes to host memory, in slices; the copies do not change when training goes on."""
    slices: list[HostSlice] = []
    for name, tensor in named_tensors(model, optimizer):
        local, (offset, shape), writes = local_part(tensor, name)
        if not writes or 0 in shape:
            continue
        if local.dtype not in _NAMES:
            raise RecipeError(f"{name}: checkpoints have no element type {local.dtype}")
        dtype, whole = _NAMES[local.dtype], tuple(tensor.shape)
        copy = local.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        if not shape:
            slices.append(HostSlice(tensor=name, dtype=dtype, whole=whole, offset=(), data=copy))
            continue
        for first, rows in row_blocks(shape, ITEM_BYTES[dtype], SLICE_BYTES):
            at = (offset[0] + first, *offset[1:])
            slices.append(HostSlice(tensor=name, dtype=dtype, whole=whole, offset=at, data=copy[first : first + rows]))
    return slices


def targets(
    model: nn.Module, optimizer: torch.optim.Optimizer | None, tensors: Mapping[str, StoredTensor]
) -> list[Target]:
    """Return where the tensors of a checkpoint go in a model and an optimizer, sharded or not.

    The optimizer's state is made where it is not there yet; where the checkpoint has none for a parameter (step 0, or no
    gradient ever came) it is set to zero.
    Raises RecipeError, naming the tensors, when the model has others than the checkpoint.
    """
    wanted = {MODEL + plain_name(name): one for name, one in model.state_dict(keep_vars=True).items()}
    stored = {name for name in tensors if name.startswith(MODEL)}
    if problems := _differences(wanted, stored, tensors):
        raise RecipeError(
            f"the checkpoint is of another model: {'; '.join(problems)}; give the run the model of the checkpoint, or begin anew"
        )
    found = [_target(name, tensor, name) for name, tensor in wanted.items()]
    if optimizer is not None:
        found += _optimizer_targets(model, optimizer, tensors)
    for one in found:
        one.found = tensors[one.name]
    return found


def _differences(
    wanted: Mapping[str, torch.Tensor], stored: set[str], tensors: Mapping[str, StoredTensor]
) -> list[str]:
    problems = [f"it has no {name}" for name in sorted(wanted.keys() - stored)]
    problems += [f"it has {name}, which the model has not" for name in sorted(stored - wanted.keys())]
    for name in sorted(stored & wanted.keys()):
        have, want = tensors[name], wanted[name]
        if have.shape != tuple(want.shape) or DTYPES[have.dtype] != want.dtype:
            problems.append(
                f"{name} is {have.dtype} {list(have.shape)}, the model's is {want.dtype} {list(want.shape)}"
            )
    return problems[:3] + ([f"and {len(problems) - 3} more"] if len(problems) > 3 else [])


def _target(name: str, tensor: torch.Tensor, shown: str) -> Target:
    local, box, _ = local_part(tensor.detach(), shown)
    return Target(name=name, shape=tuple(tensor.shape), box=box, local=local)


def _optimizer_targets(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, StoredTensor]
) -> list[Target]:
    keys = sorted({name.split(".")[0] for name in tensors if not name.startswith(MODEL)})
    found: list[Target] = []
    missing: list[str] = []
    for name, parameter in optimized(model, optimizer):
        state = optimizer.state[parameter]
        if not any(f"{key}.{name}" in tensors for key in keys):  # it had no gradient yet, or none at all had
            for value in state.values():
                if isinstance(value, torch.Tensor):
                    value.zero_()
            continue
        missing += [f"{key}.{name}" for key in sorted(state.keys() - set(keys))]
        for key in keys:
            stored = f"{key}.{name}" if f"{key}.{name}" in tensors else key
            if stored not in tensors:
                missing.append(f"{key}.{name}")
                continue
            one = tensors[stored]
            if one.shape and one.shape != tuple(parameter.shape):
                missing.append(f"{stored} of shape {list(parameter.shape)} (it has {list(one.shape)})")
                continue
            if not isinstance(state.get(key), torch.Tensor):
                state[key] = _empty(one, parameter, _on_device(optimizer, parameter))
            found.append(_target(stored, state[key], stored))
    if missing:
        raise RecipeError(
            f"the checkpoint's optimizer state is of other parameters: it has no {', '.join(missing[:3])}"
            f"{f' and {len(missing) - 3} more' if len(missing) > 3 else ''}; use the optimizer of the run that saved it"
        )
    return found


def _on_device(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> bool:
    """Say whether the optimizer keeps a parameter's scalars beside it; else they are in host memory, as in torch's AdamW."""
    group = next(g for g in optimizer.param_groups if any(one is parameter for one in g["params"]))
    return bool(group.get("fused") or group.get("capturable"))


def _empty(one: StoredTensor, parameter: nn.Parameter, on_device: bool) -> Any:
    dtype = DTYPES[one.dtype]
    if one.shape:
        return torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
    return torch.zeros((), dtype=dtype, device=parameter.device if on_device else "cpu")
