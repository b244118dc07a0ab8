"""Ask OLMo's own code (its package's folder is the argument) and print its answers as JSON; run by `olmo_golden.py`.

What `olmo` imports and does not need here is replaced by stubs: its requirements would bring another `olmo_core`.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import json
import math
import struct
import sys
import tempfile
import types
from typing import Any
from unittest.mock import MagicMock

STUBS = {
    "boto3", "botocore", "cached_path", "datasets", "filelock", "google", "olmo_data", "omegaconf", "packaging", "requests", "rich",
    "safetensors", "sklearn", "smart_open", "tokenizers", "torchmetrics", "wandb",
}  # fmt: skip


class Stubs(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module of mocks for every name of STUBS."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for a stub."""
        wanted = fullname.split(".")[0] in STUBS
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True) if wanted else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """Return a mock that passes for a package."""
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is run."""


sys.meta_path.insert(0, Stubs())
sys.path.insert(0, sys.argv[1])

import numpy as np  # noqa: E402  (the stubs come first)
import torch  # noqa: E402
from olmo.config import InstanceFilterConfig, SchedulerConfig, SchedulerType, SchedulerUnits  # noqa: E402
from olmo.data.iterable_dataset import IterableDataset  # noqa: E402
from olmo.data.memmap_dataset import MemMapDataset  # noqa: E402
from olmo.data.util import find_periodic_sequences  # noqa: E402
from olmo.optim import build_scheduler  # noqa: E402
from olmo.train import Trainer  # noqa: E402
from olmo_settings import (  # noqa: E402
    BLOCK,
    CHUNK,
    END_OF_TEXT,
    ORDERS,
    REPETITIONS,
    SCHEDULES,
    SEQUENCE,
    SHOWN,
    token_files,
)
from olmo_settings import instances as repetitive_instances  # noqa: E402


def order(chunks: int, batch: int, seed: int, epoch: int, world: int, workers: int) -> dict[str, Any]:
    """Return the batches of each rank, as torch's data loader gives them."""
    ranks = []
    for rank in range(world):
        dataset = IterableDataset(
            range(chunks), batch, seed=seed, epoch=epoch, drop_last=True, world_size=world, rank=rank, fs_local_rank=0
        )
        loader = torch.utils.data.DataLoader(
            dataset,
            batch_size=batch // world,
            drop_last=True,
            num_workers=workers,
            collate_fn=lambda items: [i["index"] for i in items],
        )
        ranks.append(list(loader))
    # A worker's leftovers may come as one more, short or whole, batch after those of the epoch.
    return {
        "batches": min(map(len, ranks)),
        "first": [some[:SHOWN] for some in ranks],
        "sha256": hashlib.sha256(json.dumps([some[: chunks // batch] for some in ranks]).encode()).hexdigest(),
    }


def chunks() -> dict[str, Any]:
    """Return what MemMapDataset and the trainer's `get_labels` make of the token files."""
    with tempfile.TemporaryDirectory() as folder:
        paths, masks = [], []
        for number, (ids, mask) in enumerate(token_files()):
            paths.append(f"{folder}/{number}.npy")
            masks.append(f"{folder}/{number}.mask")
            ids.tofile(paths[-1])
            mask.tofile(masks[-1])
        rule = InstanceFilterConfig(repetition_max_period=13, repetition_min_period=1, repetition_max_count=12)
        dataset = MemMapDataset(
            *paths,
            chunk_size=CHUNK,
            label_mask_paths=masks,
            generate_doc_lengths=True,
            eos_token_id=END_OF_TEXT,
            instance_filter_config=rule,
        )
        items = [dataset[i] for i in range(len(dataset))]
    batch = {
        "input_ids": torch.stack([i["input_ids"] for i in items]),
        "label_mask": torch.stack([i["label_mask"] for i in items]),
        "instance_mask": torch.tensor([i["instance_mask"] for i in items]),
    }
    return {
        "input_ids": batch["input_ids"].tolist(),
        "labels": Trainer.get_labels(None, batch).tolist(),
        "instance_mask": batch["instance_mask"].tolist(),
        "document_lengths": [i["doc_lens"].tolist() for i in items],
    }


def repetitions() -> list[str]:
    """Return, for each rule, a 1 for each instance that OLMo masks and a 0 for the others."""
    return [
        "".join(
            str(
                int(
                    any(m.times >= times for m in find_periodic_sequences(row, max_period=longest, min_period=shortest))
                )
            )
            for row in repetitive_instances()
        )
        for shortest, longest, times in REPETITIONS
    ]


def schedule(setting: dict[str, Any]) -> dict[str, Any]:
    """Return learning rates and largest gradient norms at every step, as the trainer asks for them."""
    tokens = setting["units"] == "tokens"
    scheduler = build_scheduler(
        None,
        SchedulerConfig(
            name=SchedulerType(setting["kind"]),
            units=SchedulerUnits(setting["units"]),
            t_warmup=setting["warmup"],
            t_max=setting["horizon"],
            alpha_f=setting["final"],
            grad_clip_warmup_steps=setting["clip_warmup"],
            grad_clip_warmup_factor=setting["clip_factor"],
        ),
    )
    duration, each = setting["max_duration"], setting["batch"] * SEQUENCE
    budget = int(float(duration[:-1])) if isinstance(duration, str) else duration * each
    steps = -(-budget // each)
    most = budget if tokens else steps
    currents = [step * each if tokens else step for step in range(1, steps + 1)]
    rates = [scheduler.get_lr(setting["learning_rate"], current, most) for current in currents]
    norms = [scheduler.get_max_grad_norm(1.0, current, most) for current in currents]
    changes = [i + 1 for i in range(1, steps) if norms[i] != norms[i - 1]]
    looked_at = sorted(
        {1, 2, steps // 3, steps // 2, steps - 1, steps, *np.linspace(1, steps, 25).astype(int).tolist()}
    )
    return {
        "steps": steps,
        "tokens": budget,
        "sha256": hashlib.sha256(struct.pack(f"<{steps}d", *rates)).hexdigest(),
        "block_sums": [math.fsum(rates[i : i + BLOCK]) for i in range(0, steps, BLOCK)],
        "rates": [[step, rates[step - 1]] for step in looked_at],
        "first_norm": norms[0],
        "norm_changes": [[step, norms[step - 1]] for step in changes],
    }


if __name__ == "__main__":
    json.dump(
        {
            "orders": [order(**setting) for setting in ORDERS],
            "chunks": chunks(),
            "repetitions": repetitions(),
            "schedules": {name: schedule(setting) for name, setting in SCHEDULES.items()},
        },
        sys.stdout,
    )
