"""A training step at `150m` beside transformers' OlmoForCausalLM: same weights, batches, AdamW, clipping and precision.

Ours is `olmo_core.train.bench`, the trainer's own step with FSDP2 and its loader. Both run in fresh processes on one core,
one thread, in turn. Losses are compared step by step before times count. Also here: how fast the loader alone is.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import ROOT
from benchmarks.measuring import ONE_THREAD, MeasurementFailed
from benchmarks.peer_protocol import drop_from_cache

OURS, PEER = "olmo-flows", "transformers"
LOSS_TOLERANCE = 1e-4
"""Relative; float32 sums in another order, over a few steps."""
TIMEOUT = 3600.0


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is measured."""

    model: str = "150m"
    sequence_length: int = 2048
    instances: int = 2
    """Of a step."""
    warm_up: int = 1
    steps: int = 2
    precision: str = "float32"


RUNS = 2
"""Fresh processes of each system, in turn: a step takes a minute."""
QUICK = Training(model="20m", sequence_length=256, instances=1)


def measure_training(what: Training, work: Path, runs: int, core: int | None) -> dict[str, Any]:
    """Return times and peak memory of both systems, and of the loader. Raises MeasurementFailed where losses differ."""
    folder, tokens, batches = work / "initial", work / "tokens.npy", work / "batches.npy"
    loader = prepare(what, folder, tokens, batches)
    found: dict[str, list[dict[str, Any]]] = {OURS: [], PEER: []}
    commands = {OURS: ours(what, tokens), PEER: peer(what, folder, batches)}
    for _ in range(runs):
        for system, command in commands.items():
            load = os.getloadavg()[0]
            result = _run(system, command, core)
            result = result["models"][0] if system == OURS else result
            found[system].append({**result, "load_average": load})
            figures = ", ".join(f"{key} {found[system][-1][key]:,.4g}" for key in KEYS)
            print(f"training step, {system}: {figures}", file=sys.stderr)
    for mine, theirs in zip(found[OURS], found[PEER], strict=True):
        require_equal_losses(mine["losses"], theirs["losses"])
    return summary(what, found, loader)


def prepare(what: Training, folder: Path, tokens: Path, batches: Path) -> dict[str, float]:
    """Write random tokens, the batches that our loader makes of them, and the initial weights; return the loader's times."""
    import torch

    from olmo_core.model.config import preset
    from olmo_core.model.hugging_face import model_source
    from olmo_core.model.hugging_face_files import write_configuration, write_weights
    from olmo_core.model.hugging_face_names import to_hugging_face
    from olmo_core.model.initialization import initialize
    from olmo_core.model.transformer import Transformer
    from olmo_core.train.bench import random_tokens
    from olmo_core.train.bench_steps import dataset
    from olmo_core.train.loader import Loader
    from olmo_core.train.recipe import DataRecipe, TrainRecipe

    recipe = preset(what.model)
    random_tokens(tokens)
    data = DataRecipe(sequence_length=what.sequence_length)
    loader = Loader(dataset(tokens, recipe, what.sequence_length), data, batch=what.instances)
    rows = [loader.batch(index).tokens_BT.numpy() for index in range(what.warm_up + what.steps)]
    np.save(batches, np.stack(rows).astype(np.uint16))
    model = Transformer(recipe)
    initialize(model, TrainRecipe.seed)
    folder.mkdir()
    write_weights(folder, to_hugging_face(recipe, model_source(model)), torch.float32)
    write_configuration(folder, recipe, torch.float32)
    drop_from_cache(str(tokens))
    wall, cpu, count = time.perf_counter(), time.process_time(), 200
    for index in range(count):
        loader.batch(index)
    return {
        "seconds": (time.perf_counter() - wall) / count,
        "cpu_seconds": (time.process_time() - cpu) / count,
    }


def ours(what: Training, tokens: Path) -> list[str]:
    """Return the command of our process."""
    command = [sys.executable, "-m", "olmo_core.train.bench", "--device", "cpu", "--model", what.model]
    command += ["--sequence", str(what.sequence_length), "--micro-batch", str(what.instances)]
    command += ["--steps", str(what.steps), "--warm-up", str(what.warm_up)]
    return [*command, "--precision", what.precision, "--tokens", str(tokens)]


def peer(what: Training, folder: Path, batches: Path) -> list[str]:
    """Return the command of the peer's process."""
    command = [sys.executable, str(ROOT / "benchmarks" / "peer_transformers.py"), "--model", str(folder)]
    return [*command, "--batches", str(batches), "--warm-up", str(what.warm_up), "--precision", what.precision]


def require_equal_losses(ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Raise MeasurementFailed where the losses of a step differ: then the systems do not compute the same."""
    for step, (mine, other) in enumerate(zip(ours, theirs, strict=True), start=1):
        if not abs(mine - other) <= LOSS_TOLERANCE * other:
            raise MeasurementFailed(f"training: the loss of step {step} is {mine} with us, {other} with the peer")


def summary(what: Training, found: dict[str, list[dict[str, Any]]], loader: dict[str, float]) -> dict[str, Any]:
    """Return medians over the runs, and how they compare: above 1 ours is faster; below 1 ours takes less memory."""
    tokens = what.instances * what.sequence_length
    medians = {
        system: {key: statistics.median(run[key] for run in runs) for key in KEYS} for system, runs in found.items()
    }
    mine, theirs = medians[OURS], medians[PEER]
    return {
        **what.__dict__,
        "tokens_per_step": tokens,
        "threads": 1,
        "load_average": [round(run["load_average"], 1) for runs in found.values() for run in runs],
        "systems": {system: {**values, "runs": found[system]} for system, values in medians.items()},
        "cpu_ratio": theirs["step_cpu_seconds"] / mine["step_cpu_seconds"],
        "wall_ratio": theirs["step_seconds"] / mine["step_seconds"],
        "memory_ratio": mine["peak_memory_bytes"] / theirs["peak_memory_bytes"],
        "loader": {**loader, "cpu_ratio": mine["step_cpu_seconds"] / loader["cpu_seconds"]},
        "agreement": f"losses of {len(found[OURS][0]['losses'])} steps equal to {LOSS_TOLERANCE:g}",
    }


KEYS = ("step_cpu_seconds", "step_seconds", "peak_memory_bytes")


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table with a line on the loader."""
    lines = [
        "| training step | CPU s | wall s | tokens/s of CPU | peak memory, GB |",
        "| --- | --: | --: | --: | --: |",
    ]
    for system, values in result["systems"].items():
        cpu, wall, memory = (values[key] for key in KEYS)
        speed = result["tokens_per_step"] / cpu
        lines.append(f"| {result['model']}, {system} | {cpu:.2f} | {wall:.2f} | {speed:.0f} | {memory / 1e9:.2f} |")
    loader = result["loader"]
    lines.append("")
    lines.append(
        f"{result['instances']} x {result['sequence_length']} tokens, {result['precision']}, {result['agreement']}; one thread, "
        f"load average {min(result['load_average']):.1f} to {max(result['load_average']):.1f}. Ours is "
        f"{result['cpu_ratio']:.2f} x as fast by CPU time ({result['wall_ratio']:.2f} x by wall) in "
        f"{result['memory_ratio']:.2f} x the memory; the loader takes {1e3 * loader['cpu_seconds']:.2f} ms a batch, the step "
        f"{loader['cpu_ratio']:,.0f} times as long."
    )
    return "\n".join(lines) + "\n"


def _run(system: str, command: list[str], core: int | None) -> dict[str, Any]:
    def pin() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    environment = {**os.environ, **ONE_THREAD, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT, preexec_fn=pin
    )
    if done.returncode:
        raise MeasurementFailed(
            f"training, {system}: {' / '.join((done.stdout + done.stderr).strip().splitlines()[-4:])}"
        )
    text = done.stdout.strip()
    result: dict[str, Any] = json.loads(text if text.startswith("{") else text.splitlines()[-1])
    return result
