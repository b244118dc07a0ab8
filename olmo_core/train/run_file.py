"""RUN.json: what a trainer process is told. `torchrun -m olmo_core.train RUN.json` needs nothing else.

Exit codes of the trainer: 0 done, 75 preempted and resumable (EX_TEMPFAIL), 1 anything that a rerun would not mend.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.errors import RecipeError
from olmo_core.recipe import canonical, fingerprint, from_mapping
from olmo_core.train.recipe import TrainRecipe, train_recipe

Recompute = Literal["none", "cheap", "block"]
VERSION = 1
"""Of the training stage: raised whenever the same recipe and tokens give other checkpoints."""
DONE, PREEMPTED, FAILED = 0, 75, 1
UNPLANNED = "unplanned"
"""Count of a checkpoint, true where it is there only because the trainer was told to end between two saves (`save_interval`)."""


@dataclass(frozen=True, kw_only=True)
class TrainResources:
    """Where and how a run works; none of this changes what it converges to, only rounding, speed and what is kept."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: GPUs where there are any; `cuda` fails where there are none."""
    micro_batch: int | None = None
    """Instances a device works on at a time; None: its whole share of the batch at once."""
    compile: bool = False
    """torch.compile of each block."""
    recompute: Recompute = "none"
    """Activation checkpointing. `block` keeps only each block's input and computes the rest again. `cheap`, with `compile`: what no
    matrix product made (norms, activations) is computed again, which is a quarter of the activations and hardly any time."""
    reshard_after_forward: bool = True
    """Let go of a block's gathered parameters after its forward pass and gather them again for the backward pass. Without it that
    is done once, and all parameters lie gathered on every device between the two: 2 bytes a parameter in bfloat16."""
    save_every: int | None = None
    """Steps from one checkpoint to the next; also at step 0 and at the end. None: by the run's length, 10 to 25 in all, and 1,000
    at most (`save_interval`)."""
    keep_last: int | None = None
    """The newest checkpoints that are kept, the last one always; beside those of `keep_every` and the first. None keeps all."""
    keep_every: int = 10_000
    """Checkpoints of steps that are a multiple of this are kept for good."""
    evaluate_every: int | None = None
    """Steps from one held-out loss to the next, where held-out tokens are given; None: with every checkpoint."""
    evaluate_batches: int = 16
    """Batches of a held-out loss at most."""
    evaluate_benchmarks: tuple[str, ...] = ()
    """Benchmarks (or suites: core) that are asked with every held-out loss, in the in-loop format; `benchmarks/...` in the metrics."""
    evaluate_limit: int | None = 100
    """Items of each of them at most, the same ones every time; every rank asks all of them. None for all."""
    evaluate_tokenizer: str = "olmo-tokenizer"
    """Asset with the tokenizer that made the tokens."""
    log_every: int = 1
    """Steps from one line of metrics to the next."""
    save_seconds: float = 25.0
    """Time in which a checkpoint must be committed after SIGTERM; the sender's grace time less a margin."""
    hang_seconds: float = 600.0
    """A rank that has not answered for so long is named, and the run ends. The store's time for a checkpoint does not count."""
    commit_seconds: float = 3600.0
    """Longest time for a checkpoint to reach the store where training waits for it: the last one, and one that is still under way
    when the next is due. The run ends then, and the checkpoint before counts."""
    cache: str | None = None
    """Folder for token files that are fetched from object storage; None: one in the system's temporary folder."""
    tensorboard: str | None = None
    """Folder for TensorBoard's event files; None for none."""
    wandb_project: str | None = None
    """Weights & Biases project; needs the package wandb and its usual environment variables. None for none."""
    carbon_kg_per_kwh: float = 0.4
    """Emission factor of the electricity; the world's average was about 0.4 kgCO2e/kWh."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """A headerless file of token ids that was made elsewhere."""

    path: str
    """Local path."""
    sha256: str
    """Of its bytes; identity."""
    dtype: str = "uint16"
    """numpy's name of the ids' type."""
    label_mask: str | None = None
    """Local path of a headerless file of booleans, one for each token: whether the token is a target."""
    label_mask_sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """One run as the trainer sees it."""

    store: str
    """URI of the artifact store."""
    recipe: TrainRecipe
    tokens: ArtifactRef
    """A tokens artifact; or the inventory artifact of `files`."""
    files: tuple[TokenFile, ...] = ()
    """Token files made elsewhere, where `tokens` is their inventory."""
    held_out: ArtifactRef | None = None
    """A held-out split's tokens, whose loss is reported; changes no weight."""
    start: ArtifactRef | None = None
    """A checkpoint to go on from: the same recipe with a larger budget (an extension), as another run."""
    resources: TrainResources = field(default_factory=TrainResources)

    @property
    def ref(self) -> ArtifactRef:
        """The run artifact that this makes; known before anything has run."""
        identity = {
            "stage": "training",
            "version": VERSION,
            "recipe": canonical(self.recipe),
            "inputs": {role: ref.fingerprint for role, ref in sorted(self.inputs.items())},
        }
        return ArtifactRef(kind=Kind.RUN, name=self.recipe.name, fingerprint=fingerprint(identity))

    @property
    def inputs(self) -> dict[str, ArtifactRef]:
        """What decides the run beside the recipe, by role."""
        return {"tokens": self.tokens, **({"start": self.start} if self.start else {})}

    def checkpoint(self, step: int) -> ArtifactRef:
        """Return the checkpoint artifact of a step: its fingerprint is of run and step."""
        identity = {"stage": "checkpoint", "run": self.ref.fingerprint, "step": step}
        return ArtifactRef(kind=Kind.CHECKPOINT, name=self.recipe.name, fingerprint=fingerprint(identity))

    def to_json(self) -> str:
        """Return the run as the text of RUN.json."""
        refs = {"tokens": self.tokens, "held_out": self.held_out, "start": self.start}
        values = {
            "store": self.store,
            "recipe": canonical(self.recipe),
            "files": canonical(self.files),
            "resources": canonical(self.resources),
            **{role: ref.to_json() if ref else None for role, ref in refs.items()},
        }
        return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)


def save_interval(run: RunFile) -> int:
    """Return the steps from one checkpoint of a run to the next: as asked, else the largest of 1, 2, 5, 10, 20, 50, ... 1,000 that
    gives ten checkpoints or more.
    """
    if run.resources.save_every is not None:
        return run.resources.save_every
    rounds = (digit * 10**power for power in range(3) for digit in (1, 2, 5))
    return max((one for one in (*rounds, 1000) if 10 * one <= run.recipe.steps), default=1)


def step_tag(step: int, tokens: int) -> str:
    """Return the published name of a checkpoint, `step1000-tokens4B`: tokens in billions, rounded half to even."""
    return f"step{step}-tokens{round(tokens / 1e9)}B"


def read_run_file(path: str | Path) -> RunFile:
    """Return the run of a RUN.json. Raises RecipeError, naming the field, when it is not one."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read the run file {path}: {error}") from error
    except ValueError as error:
        raise RecipeError(f"the run file {path} is not JSON: {error}") from error
    if not isinstance(data, Mapping):
        raise RecipeError(f"the run file {path} holds {type(data).__name__}, expected an object")
    return run_from_mapping(data, str(path))


def run_from_mapping(data: Mapping[str, Any], path: str = "run") -> RunFile:
    """Return the run of the values of a RUN.json; the recipe's model may be a preset, as in YAML."""
    refs = {role: ArtifactRef.from_json(data[role]) for role in ("tokens", "held_out", "start") if data.get(role)}
    empty = {role: None for role in ("held_out", "start") if role not in refs}
    recipe = {"recipe": train_recipe(data["recipe"], f"{path}.recipe")} if "recipe" in data else {}
    return from_mapping(RunFile, {**data, **refs, **empty, **recipe}, path)
