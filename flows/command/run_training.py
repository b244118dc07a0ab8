"""`olmo run train-olmo`: its options, a look at what a run would be, and the run itself in this process."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from flows.command import choices, tables
from flows.command.checkpoints import CHECKPOINT
from flows.command.usage import between, refuse, whole
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError
from olmo_core.report.markdown import count, size
from olmo_core.train.overrides import TrainOverrides
from olmo_core.train.run_file import RunFile, TrainResources

_CORPUS = ("language_threshold", "near_duplicate_jaccard", "max_bytes", "sample", "limit", "data", "workers")
"""Options that mean something to other flows only."""
_OWN = (
    "tokens", "held_out", "start", "budget", "batch", "sequence_length", "learning_rate", "warmup", "device",
    "processes", "threads", "micro_batch", "save_every", "compile",
)  # fmt: skip
"""Options that mean nothing to flows without training."""


def refuse_own(arguments: argparse.Namespace) -> None:
    """Raise UsageError for an option of training that was given to another flow: it would be dropped without a word."""
    refuse(arguments, ("plan",), "; `olmo plan` tells what a build would do" if arguments.flow == "build-dolma" else "")
    refuse(arguments, _OWN)


def trainer_of(arguments: argparse.Namespace) -> TrainResources:
    """Return the trainer's resources that the options ask for."""
    names = ("device", "micro_batch", "save_every")
    given = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    return replace(TrainResources(compile=arguments.compile), **given)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of train-olmo."""
    group = parser.add_argument_group("train-olmo")
    group.add_argument(
        "--plan",
        action="store_true",
        help="only say what the run would be, and whether it is there; also of data-to-model",
    )
    group.add_argument(
        "--tokens", metavar="ARTIFACT", type=choices.address, help="tokens (default: tokens/quickstart@latest)"
    )
    group.add_argument(
        "--held-out",
        metavar="ARTIFACT",
        help="held-out tokens, or none (default: the split validation, if there is one)",
    )
    group.add_argument(
        "--start", metavar="CHECKPOINT", help=f"go on from it with a larger budget, as another run: {CHECKPOINT}"
    )
    group.add_argument("--budget", type=whole(1), metavar="N", help="tokens to train on in all")
    group.add_argument("--batch", type=whole(1), metavar="N", help="instances of a step over all devices")
    group.add_argument("--sequence-length", type=whole(2), metavar="N", help="tokens of an instance")
    group.add_argument("--learning-rate", type=between(0, float("inf"), above=True), metavar="R", help="at the peak")
    group.add_argument("--warmup", type=whole(0), metavar="N", help="length of the rise to it, in the schedule's unit")
    group.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    group.add_argument("--processes", type=whole(1), metavar="N", help="ranks (default: one for each GPU, else one)")
    group.add_argument(
        "--threads", type=whole(1), metavar="N", help="OMP threads of each rank (default: cores over ranks)"
    )
    group.add_argument("--micro-batch", type=whole(1), metavar="N", help="instances a device works on at a time")
    group.add_argument(
        "--save-every",
        type=whole(1),
        metavar="N",
        help="steps from one checkpoint to the next (default: 10 to 25 in all)",
    )
    group.add_argument("--compile", action="store_true", help="torch.compile each block")


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    from flows.command.run import prefect_environment, server

    prefect_environment()
    from tasks.training import AUTO, TOKENS, TrainingResources, resolve
    from tasks.training_fit import fit

    refuse(arguments, _CORPUS, "; `olmo run --help` lists its own")
    recipe = "tiny" if arguments.recipe == "quickstart" else arguments.recipe
    names = ("name", "budget", "batch", "sequence_length", "learning_rate", "warmup", "seed")
    overrides = TrainOverrides(**{name: getattr(arguments, name) for name in names})
    resources = TrainingResources(
        store=choices.store(arguments),
        processes=arguments.processes,
        threads=arguments.threads,
        credentials_block=arguments.credentials_block,
        trainer=trainer_of(arguments),
    )
    held_out = None if arguments.held_out == "none" else arguments.held_out or AUTO
    tokens = arguments.tokens or TOKENS
    run_known: RunFile | None = None
    if arguments.plan or arguments.credentials_block is None:
        # Also before Prefect is started and a run is on record: what is wrong with recipe, tokens and options.
        store = ArtifactStore(choices.store(arguments))
        wanted, expected = resolve(store, recipe, tokens, held_out, arguments.start, overrides, resources)
        found, run_known = fit(resources, expected), wanted
        if arguments.plan:
            return _plan(store, wanted, expected, found, arguments.json)
        if store.find(wanted.ref) is None:
            for warning in found.warnings:  # of what is unwise the run's own log tells
                print(f"WARNING: {warning}", file=sys.stderr)
    with server(), told_what_is_saved(run_known):
        from flows.train_olmo import train_olmo

        made: dict[str, str] = train_olmo(
            recipe=recipe,
            tokens=tokens,
            held_out=held_out,
            start=arguments.start,
            overrides=overrides,
            resources=resources,
        )
    if arguments.json:
        tables.show_json({**made, "store": choices.store(arguments)})
    else:
        for kind, address in made.items():
            print(f"{kind:<11} {address}; `olmo artifacts show {address}` tells more")
    return 0


@contextlib.contextmanager
def told_what_is_saved(run: RunFile | None) -> Iterator[None]:
    """Make an interruption say from where the run goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if run is None:
            raise
        from olmo_core.train import retention

        try:
            newest = next(iter(retention.committed(ArtifactStore(run.store), run)), None)
        except OlmoError:  # the interruption counts, not what became of the store
            raise KeyboardInterrupt from None
        if newest is None:
            raise KeyboardInterrupt(f"no checkpoint of {run.ref} was saved yet") from None
        step = int(newest.counts["step"])
        raise KeyboardInterrupt(f"{newest.ref}, step {step:,} of {run.recipe.steps:,}, is saved") from None


def _plan(store: ArtifactStore, wanted: Any, expected: Any, found: Any, as_json: bool) -> int:
    from olmo_core.train.run_file import save_interval
    from olmo_core.train.run_record import checkpoints

    finished = store.find(wanted.ref) is not None
    saved = [] if finished else checkpoints(store, wanted.ref)
    action = "reuse" if finished else f"go on from step {saved[-1].recipe['step']}" if saved else "train"
    if as_json:
        tables.show_json(
            {
                "run": str(wanted.ref),
                "action": action,
                "tokens": str(wanted.tokens),
                "held_out": str(wanted.held_out) if wanted.held_out else None,
                **{f"expected_{name}" if name == "tokens" else name: v for name, v in expected.to_json().items()},
                "memory": found.to_json(),
                "warnings": [*found.warnings, *expected.unwise],
            }
        )
        return 0
    recipe, every = wanted.recipe, save_interval(wanted)
    rows = [
        ("run", f"{wanted.ref}: {action}"),
        (
            "tokens",
            f"{wanted.tokens}: {count(expected.available)}, {expected.chunks:,} instances of {recipe.data.sequence_length:,}",
        ),
        ("left out", f"{expected.dropped:,} tokens at the ends of files"),
        ("held out", str(wanted.held_out or "none")),
        ("model", f"{expected.parameters:,} parameters"),
        ("steps", f"{expected.steps:,} of {recipe.batch:,} instances, {expected.tokens_per_step:,} tokens"),
        ("trained on", f"{count(expected.tokens)} tokens, {expected.epochs:.2f} epochs"),
        ("work", f"{expected.flops:.3g} floating-point operations"),
        ("memory", str(found)),
        ("checkpoints", f"one every {every:,} steps, {size(expected.checkpoint_bytes)} each"),
    ]
    rows += [("WARNING", warning) for warning in (*found.warnings, *(() if finished else expected.unwise))]
    print("\n".join(f"{name:<12} {value}" for name, value in rows))
    return 0
