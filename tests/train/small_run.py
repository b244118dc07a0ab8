"""A small model of odd shapes, sharded by FSDP2, and a run around it: what checkpoints are tested with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import FinishedShard, Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.model.config import ModelRecipe
from olmo_core.train import fence
from olmo_core.train.checkpoint import Checkpointer
from olmo_core.train.recipe import DataRecipe, TrainRecipe
from olmo_core.train.run_file import RunFile, TrainResources
from olmo_core.train.state import TrainState

MODEL = ModelRecipe(width=6, layers=2, heads=1, mlp_width=5, vocabulary=11, embedding_rows=11, context=8)


class Small(nn.Module):
    """Shapes that no number of ranks divides, a parameter with fewer rows than ranks, a buffer, and mixed types."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 6)) for _ in range(2))
        self.norm = nn.LayerNorm(6)
        self.gain = nn.Parameter(torch.ones(1, 6))
        self.register_buffer("seen", torch.zeros(3, dtype=torch.int64))

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Return the mean of squares of what comes out."""
        x_BTD = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTD = x_BTD + block(x_BTD)
        return (self.norm(x_BTD) * self.gain - 1).square().mean()


def run_file(store: str, **changes: Any) -> RunFile:
    """A run of the store, some fields changed: of the recipe, the resources, or the run itself."""
    recipe: dict[str, Any] = {
        "name": "small", "model": MODEL, "tokens": 10_000, "batch": 4, "data": DataRecipe(sequence_length=8),
    }  # fmt: skip
    resources = {"save_every": 1}
    rest: dict[str, Any] = {"tokens": ArtifactRef(kind=Kind.TOKENS, name="words", fingerprint="70" * 32)}
    for key, value in changes.items():
        place = resources if key in TrainResources.__dataclass_fields__ else recipe if key in recipe else rest
        place["tokens" if key == "dataset" else key] = value
    return RunFile(store=store, recipe=TrainRecipe(**recipe), resources=TrainResources(**resources), **rest)


def publish(store: ArtifactStore, ref: ArtifactRef, **inputs: ArtifactRef) -> Manifest:
    """Put a finished artifact of one small object."""
    output = Output(store.storage, f"{ref.address}/attempt-x")
    with output.raw("00", ".bin", 1) as handle:
        handle.write(ref.fingerprint.encode())
    shard = FinishedShard(key="00", fingerprint="f", objects=tuple(output.objects), ledger=Ledger())
    manifest = Manifest(
        ref=ref, stage="packing", version=1, recipe={}, inputs=inputs, attempt="attempt-x", shards=(shard,), ledger=Ledger()
    )  # fmt: skip
    return store.publish(manifest)[0]


class Trainer:
    """A model, its optimizer and the checkpointer of a run on this rank."""

    def __init__(self, run: RunFile, *, seed: int = 0, epoch: int | None = None, shard: bool = True) -> None:
        torch.manual_seed(seed)
        self.model = Small()
        if shard:
            for block in self.model.blocks:
                fully_shard(block)
            fully_shard(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.05, weight_decay=0.1)
        self.store = ArtifactStore(run.store)
        number = [epoch]
        if epoch is None:
            number = [fence.claim(self.store, run.ref) if rank() == 0 else 0]
            if dist.is_initialized():
                dist.broadcast_object_list(number, src=0)
        self.epoch = int(number[0] or 0)
        self.checkpoints = Checkpointer(self.store, run, self.epoch, self.model, self.optimizer)
        self.step = 0

    def train(self, steps: int) -> list[float]:
        """Train; all ranks see the same batch, so that their number does not matter."""
        losses = []
        for _ in range(steps):
            self.step += 1
            tokens_BT = torch.arange(24).reshape(3, 8) * self.step % 11
            loss = self.model(tokens_BT)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.model.seen += self.step
            losses.append(loss.item())
        return losses

    def state(self, **changes: Any) -> TrainState:
        """Where it stands."""
        values = {"step": self.step, "tokens": self.step * 32, "next_batch": self.step, "dataset": "d0", **changes}
        return TrainState(**values)

    def save(self, **options: Any) -> None:
        """Save, and wait until it is committed."""
        self.checkpoints.save(self.state(), **{"wait": True, **options})

    def load(self, **options: Any) -> TrainState:
        """Load the newest checkpoint."""
        manifest = self.checkpoints.latest()
        assert manifest is not None
        state = self.checkpoints.load(manifest, **options)
        self.step = state.step
        return state

    def whole(self) -> dict[str, torch.Tensor]:
        """All tensors, whole, by name; collective."""
        found = {f"model.{name}": _whole(one) for name, one in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"{key}.{name}"] = _whole(value)
        return found


def rank() -> int:
    """The number of this rank."""
    return dist.get_rank() if dist.is_initialized() else 0


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def saved(folder: Path) -> dict[str, torch.Tensor]:
    """What `keep` has put into a folder."""
    found: dict[str, torch.Tensor] = torch.load(folder / "whole.pt", weights_only=True)
    return found


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Say whether two sets of tensors are equal, bit for bit."""
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and torch.equal(one[k], other[k]) for k in one
    )
