"""How fast this machine trains: `python -m olmo_core.train.bench`, alone or under torchrun; JSON on standard output.

    python -m olmo_core.train.bench                                  # 1b and 7b at sequence 2,048 in bfloat16
    torchrun --nproc-per-node 8 -m olmo_core.train.bench --model 7b
    python -m olmo_core.train.bench --model tiny                     # does it work here? also without a GPU

The steps are the trainer's own: FSDP2, loader with its thread, clipped AdamW, norms read after every step. The tokens are
random, which costs the same as text. Needs torch and numpy; curation's packages, pyarrow and yaml are not imported.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from olmo_core.errors import OlmoError, RecipeError
from olmo_core.model.config import PRESETS, preset
from olmo_core.train.bench_steps import MFU_FORMULA, Shape, environment, measure
from olmo_core.train.run_file import Recompute, TrainResources
from olmo_core.train.world import World, join


@dataclass(frozen=True, kw_only=True)
class _Default:
    """What a GPU of 140 GB takes: parameters, gradients and optimizer state of 7b alone are 110 GB."""

    micro_batch: int
    recompute: Recompute = "none"
    reshard_after_forward: bool = True


_DEFAULTS = {
    "1b": _Default(micro_batch=32, reshard_after_forward=False),
    "7b": _Default(micro_batch=8, recompute="cheap"),
    "65b": _Default(micro_batch=1, recompute="block"),
}
_TOKENS = 1 << 22
"""Length of the file of random tokens: 8 MB."""


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m olmo_core.train.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", nargs="+", choices=PRESETS, default=["1b", "7b"], metavar="NAME", help="presets")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--sequence", type=int, default=2048, help="tokens of an instance (default: 2048, or the context)"
    )
    parser.add_argument("--micro-batch", type=int, help="instances a device works on at a time (default: 1b 32, 7b 8)")
    parser.add_argument("--accumulate", type=int, default=1, help="micro batches of a step (default: 1)")
    parser.add_argument("--steps", type=int, help="timed steps (default: 20, on a CPU 2)")
    parser.add_argument("--warm-up", type=int, help="steps before (default: 5, on a CPU 1)")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="torch.compile of blocks (default: on a GPU)"
    )
    parser.add_argument(
        "--recompute",
        choices=get_args(Recompute),
        help="activations that are computed again (default: 7b cheap, 65b block)",
    )
    parser.add_argument(
        "--reshard-after-forward",
        action=argparse.BooleanOptionalAction,
        help="gather parameters again for the backward pass (default: not for 1b)",
    )
    parser.add_argument("--tokens", type=Path, help="file of uint16 token ids (default: random ones)")
    parser.add_argument("--out", type=Path, help="also write the JSON here")
    return parser.parse_args(arguments)


def shape(name: str, options: argparse.Namespace, cuda: bool) -> Shape:
    """Return what is measured for one model."""
    default = _DEFAULTS.get(name, _Default(micro_batch=8 if cuda else 1))
    model = preset(name)
    return Shape(
        name=name,
        model=model,
        sequence_length=min(options.sequence, model.context),
        micro_batch=options.micro_batch or default.micro_batch,
        accumulate=options.accumulate,
        steps=options.steps or (20 if cuda else 2),
        warm_up=options.warm_up if options.warm_up is not None else (5 if cuda else 1),
        precision=options.precision,
        compile=cuda if options.compile is None else options.compile,
        recompute=options.recompute or default.recompute,
        reshard_after_forward=(
            default.reshard_after_forward if options.reshard_after_forward is None else options.reshard_after_forward
        ),
    )


def random_tokens(path: Path) -> None:
    """Write a file of random ids of OLMo's tokenizer."""
    np.random.default_rng(0).integers(0, 50_280, _TOKENS, dtype=np.uint16).tofile(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each model in turn; returns 1 when one could not be measured."""
    options = parse(arguments)
    try:
        world = join(TrainResources(device=options.device))
    except RecipeError as error:
        print(str(error), file=sys.stderr)  # noqa: T201 - a command
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="olmo-bench-") as folder:
            tokens = options.tokens or Path(folder) / f"tokens-{os.getpid()}.npy"
            if options.tokens is None:
                random_tokens(tokens)
            results = [_measure(name, options, world, tokens) for name in options.model]
    finally:
        world.leave()
    if world.rank == 0:
        text = json.dumps({**environment(world), "mfu_formula": MFU_FORMULA, "models": results}, indent=1)
        if options.out is not None:
            options.out.write_text(text + "\n", encoding="utf-8")
        print(text, flush=True)  # noqa: T201 - a command
    return 1 if any("error" in one for one in results) else 0


def _measure(name: str, options: argparse.Namespace, world: World, tokens: Path) -> dict[str, Any]:
    what = shape(name, options, world.device.type == "cuda")
    try:
        return measure(what, world, tokens)
    except torch.OutOfMemoryError as error:
        remedy = "lower --micro-batch, add --recompute cheap or block, or use more GPUs: torchrun --nproc-per-node N -m olmo_core.train.bench"
        found = {"model": name, "error": f"out of memory: {str(error).splitlines()[0]} To go on: {remedy}"}
    except OlmoError as error:
        found = {"model": name, "error": str(error)}
    gc.collect()
    if world.device.type == "cuda":
        torch.cuda.empty_cache()
    return found


if __name__ == "__main__":
    sys.exit(main())
