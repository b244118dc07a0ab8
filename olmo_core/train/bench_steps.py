"""Some steps of the trainer, timed: what `olmo_core.train.bench` runs and `benchmarks/` compares with a peer."""

from __future__ import annotations

import contextlib
import gc
import os
import platform
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from olmo_core.model.config import ModelRecipe
from olmo_core.train.chunks import OpenFile
from olmo_core.train.dataset import TokenDataset
from olmo_core.train.devices import peak_flops, utilisation
from olmo_core.train.loader import Batch, Loader
from olmo_core.train.metrics import Sums
from olmo_core.train.non_finite import NonFinite
from olmo_core.train.optimizer import build_optimizer
from olmo_core.train.recipe import DataRecipe, OptimizerRecipe, ScheduleRecipe, TrainRecipe
from olmo_core.train.run_file import Recompute, TrainResources
from olmo_core.train.sharding import initialize_sharded, sharded_model
from olmo_core.train.step import Stepper
from olmo_core.train.world import World

MFU_FORMULA = (
    "tokens/s per device x (6 (P - E) + 6 R d + 6 L T d) / peak: P parameters, E those of embedding and output layer, R rows of "
    "the output layer, d width, L layers, T sequence length; attention counts its causal half, recomputation nothing"
)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is measured."""

    name: str
    model: ModelRecipe
    sequence_length: int
    micro_batch: int
    accumulate: int
    """Micro batches of a step on each device."""
    steps: int
    warm_up: int
    precision: Literal["bfloat16", "float32"]
    compile: bool
    recompute: Recompute
    reshard_after_forward: bool


def environment(world: World) -> dict[str, Any]:
    """Return what a reader needs to place the figures."""
    facts: dict[str, Any] = {"devices": world.size, "python": platform.python_version(), "torch": torch.__version__}
    if world.device.type == "cuda":
        about = torch.cuda.get_device_properties(world.device)
        facts |= {
            "device": about.name,
            "processors": about.multi_processor_count,
            "memory_bytes": about.total_memory,
            "cuda": torch.version.cuda,
        }
    else:
        facts |= {"device": _cpu(), "processors": torch.get_num_threads(), "load_average": os.getloadavg()[0]}
    return facts


def measure(shape: Shape, world: World, tokens: Path) -> dict[str, Any]:
    """Return times, MFU and memory of training steps, the same on all ranks but for the memory.

    `tokens`: file of uint16 ids. Raises InputError for ids that are not in the vocabulary or too few tokens.
    """
    batch = shape.micro_batch * shape.accumulate * world.size
    recipe = TrainRecipe(
        name="bench",
        model=shape.model,
        tokens=batch * shape.sequence_length * (shape.warm_up + shape.steps),
        batch=batch,
        data=DataRecipe(sequence_length=shape.sequence_length),
        optimizer=OptimizerRecipe(),
        schedule=ScheduleRecipe(kind="constant", warmup=0),
        precision=shape.precision,
    )
    resources = TrainResources(
        device="cuda" if world.device.type == "cuda" else "cpu",
        micro_batch=shape.micro_batch,
        compile=shape.compile,
        recompute=shape.recompute,
        reshard_after_forward=shape.reshard_after_forward,
    )
    model = sharded_model(recipe, resources, world.mesh)
    initialize_sharded(model, recipe.seed)
    optimizer = build_optimizer(model, recipe.optimizer)
    stepper = Stepper(model, optimizer, recipe, world, micro_batch=shape.micro_batch)
    loader = Loader(
        dataset(tokens, shape.model, shape.sequence_length), recipe.data, batch=batch, rank=world.rank, world=world.size
    )
    run = _Steps(stepper, world, loader.prefetch(0, pin=world.device.type == "cuda"))
    gc.collect()
    _forget_peak(world.device)
    warm = [run.step() for _ in range(shape.warm_up)]
    timed = [run.step() for _ in range(shape.steps)]
    peak = _peak_memory(world.device)
    seconds = sum(one.seconds for one in timed)
    rate = shape.micro_batch * shape.accumulate * shape.sequence_length * len(timed) / seconds
    of_device = None
    if world.device.type == "cuda":
        about = torch.cuda.get_device_properties(world.device)
        of_device = peak_flops(about.name, about.multi_processor_count)
    flops = shape.model.flops_per_token(shape.sequence_length)
    return {
        "model": shape.name,
        "parameters": shape.model.parameters,
        "sequence_length": shape.sequence_length,
        "micro_batch": shape.micro_batch,
        "batch_tokens": recipe.tokens_per_step,
        "precision": shape.precision,
        "compile": shape.compile,
        "recompute": shape.recompute,
        "reshard_after_forward": shape.reshard_after_forward,
        "steps": len(timed),
        "step_seconds": statistics.median(one.seconds for one in timed),
        "step_seconds_range": [min(one.seconds for one in timed), max(one.seconds for one in timed)],
        "step_cpu_seconds": statistics.median(one.cpu_seconds for one in timed),
        "tokens_per_second_per_device": rate,
        "flops_per_token": flops,
        "peak_flops": of_device,
        "mfu": utilisation(flops, rate, of_device),
        "peak_memory_bytes": peak,
        "loader_wait_seconds_per_step": sum(one.waited for one in timed) / len(timed),
        "loader_wait_share": sum(one.waited for one in timed) / seconds,
        "losses": [one.loss for one in (*warm, *timed)],
    }


@dataclass(frozen=True, kw_only=True)
class _Step:
    seconds: float
    cpu_seconds: float
    """Of all threads of this process, the loader's included."""
    waited: float
    loss: float | None


class _Steps:
    """The trainer's loop without its record and checkpoints; a line of metrics is read after every step."""

    def __init__(self, stepper: Stepper, world: World, batches: Iterator[Batch]) -> None:
        self._stepper, self._world, self._batches = stepper, world, batches
        self._sums, self._non_finite, self._number = Sums(world.device), NonFinite(10, world.device), 0

    def step(self) -> _Step:
        """Take one; reading the loss waits for the device."""
        began, cpu = time.perf_counter(), time.process_time()
        batch = next(self._batches)
        waited = time.perf_counter() - began
        (targets,) = self._world.agree([int((batch.labels_BT != -100).sum())])
        self._number += 1
        self._stepper.step(self._number, batch.index, batch, targets, self._non_finite, self._sums)
        read = self._sums.read(self._stepper.parameter_norm(), self._non_finite.state)
        return _Step(
            seconds=time.perf_counter() - began,
            cpu_seconds=time.process_time() - cpu,
            waited=waited,
            loss=read.loss,
        )


def dataset(tokens: Path, model: ModelRecipe, sequence_length: int) -> TokenDataset:
    """Return the chunks of a file of uint16 ids."""
    file = OpenFile(name=tokens.name, path=str(tokens), sha256="", dtype="uint16", tokens=tokens.stat().st_size // 2)
    return TokenDataset(
        [file],
        sequence_length=sequence_length,
        vocabulary=model.vocabulary,
        end_of_text_id=model.end_of_text_id,
    )


def _forget_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):  # not everywhere; the peak is then that of the whole process
            Path("/proc/self/clear_refs").write_text("5")


def _peak_memory(device: torch.device) -> int | None:
    """Most memory since `_forget_peak`, in bytes: of the GPU's allocations, or of this process; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
