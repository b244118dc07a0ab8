"""Checkpoints saved and loaded by real ranks under FSDP2: equal bit for bit, whatever the number of ranks."""

from __future__ import annotations

import hashlib
import json
from math import prod
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import RecipeError
from olmo_core.storage import Storage
from olmo_core.train import checkpoint_tensors, checkpoint_write
from olmo_core.train.checkpoint import Checkpointer
from olmo_core.train.checkpoint_format import ITEM_BYTES, Index, StoredTensor
from olmo_core.train.checkpoint_read import read_index, read_tensors
from olmo_core.train.checkpoint_tensors import local_part
from tests.train.processes import run_ranks
from tests.train.small_run import Trainer, run_file, same, saved


def save(rank: int, world: int, folder: Path) -> list[float]:
    """Train 3 steps, save, train 2 more while it is being saved; returns the losses."""
    with pytest.MonkeyPatch.context() as patch:  # several slices and objects; the process serves other tests, too
        patch.setattr(checkpoint_tensors, "SLICE_BYTES", 60)
        patch.setattr(checkpoint_write, "OBJECT_BYTES", 300)
        trainer = Trainer(run_file(str(folder / "store")))
        trainer.save()  # step 0, before the optimizer has any state
        losses = trainer.train(3)
        whole = trainer.whole()
        trainer.save(wait=False, figures={"loss": losses[-1], "odd": float("nan")})
        losses += trainer.train(2)
        trainer.checkpoints.wait()
    if rank == 0:
        torch.save(whole, folder / "whole.pt")
    return losses


def load(rank: int, world: int, folder: Path) -> list[float]:
    """Load into other weights, compare, train 2 steps; returns their losses."""
    trainer = Trainer(run_file(str(folder / "store")), seed=world)
    manifest = trainer.checkpoints.latest()
    assert manifest is not None
    read, lengths = Storage.read, []

    def reading(self: Storage, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        lengths.append(length if path.endswith(".safetensors") else 0)
        return read(self, path, start=start, length=length)

    Storage.read = reading  # type: ignore[method-assign]
    state = trainer.load(dataset="d0")
    Storage.read = read  # type: ignore[method-assign]
    assert (state.step, state.tokens, state.next_batch) == (3, 96, 3)
    everything = sum(tensor_bytes(one) for one in read_index(trainer.store, manifest).tensors.values())
    assert sum(lengths) <= {1: 1, 2: 0.6, 4: 0.75}[world] * everything, "slices that touch its own rows"
    assert same(trainer.whole(), saved(folder))
    return trainer.train(2)


def tensor_bytes(one: StoredTensor) -> int:
    return prod(one.shape) * ITEM_BYTES[one.dtype]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    folder = tmp_path_factory.mktemp("two")
    losses = run_ranks(2, save, folder, folder)
    assert losses[0] == losses[1]
    return folder, losses[0]


def newest(folder: Path) -> tuple[ArtifactStore, Manifest]:
    """Return the store and the manifest of step 3."""
    store = ArtifactStore(str(folder / "store"))
    return store, store.manifest(store.resolve("checkpoint/small@latest"))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_saved_by_two_ranks_and_loaded_by_any(world: int, two: tuple[Path, list[float]], tmp_path: Path) -> None:
    folder, losses = two
    for after in run_ranks(world, load, tmp_path, folder):
        assert after == (losses[3:] if world == 2 else pytest.approx(losses[3:], rel=1e-6))


def resave(rank: int, world: int, folder: Path) -> None:
    """Save on 4 ranks what was loaded from 2, as a run of another name."""
    trainer = Trainer(run_file(str(folder / "store")))
    trainer.load()
    other = Trainer(run_file(str(folder / "store"), name="other"))
    other.checkpoints.load(trainer.checkpoints.latest() or pytest.fail("no checkpoint"))
    other.step = 3
    other.save()


def test_saved_by_four_ranks_and_loaded_by_one_process_without_ranks(
    two: tuple[Path, list[float]], tmp_path: Path
) -> None:
    folder, _ = two
    run_ranks(4, resave, tmp_path, folder)
    trainer = Trainer(run_file(str(folder / "store"), name="other"), seed=7, shard=False)
    assert trainer.load().step == 3
    assert same(trainer.whole(), saved(folder))


def test_the_manifest_says_where_the_run_stands(two: tuple[Path, list[float]]) -> None:
    store, manifest = newest(two[0])
    run = run_file(store.uri)
    assert manifest.ref == run.checkpoint(3) and manifest.inputs == run.inputs and manifest.stage == "checkpoint"
    assert store.tags("checkpoint", "small") == {
        "step0-tokens0B": run.checkpoint(0), "step3-tokens0B": manifest.ref, "latest": manifest.ref,
    }  # fmt: skip
    assert manifest.recipe["run"] == run.ref.fingerprint and manifest.recipe["model"]["width"] == 6
    counts = manifest.counts
    assert (counts["step"], counts["next_batch"], counts["dataset"], counts["skipped"]) == (3, 3, "d0", [])
    assert counts["loss"] == two[1][2] and counts["odd"] is None and counts["ranks"] == 2 and counts["epoch"] == 1
    assert store.verify(manifest) == [] and manifest.attempt.endswith("-epoch-000001")


def test_other_readers_find_every_slice(two: tuple[Path, list[float]]) -> None:
    """By the safetensors package, and by hand as docs/checkpoints.md says, from nothing but the index."""
    store, manifest = newest(two[0])
    paths = {one.key: Path(store.uri) / one.path for one in manifest.objects}
    index = json.loads(paths["index.json"].read_text())
    assert len(paths) > 5, "small objects, so that there are several for each rank"
    whole = saved(two[0])
    types = {"F32": torch.float32, "I64": torch.int64}
    found: dict[str, torch.Tensor] = {}
    for name, tensor in index["tensors"].items():
        found[name] = torch.empty(tensor["shape"], dtype=types[tensor["dtype"]])
        for part in tensor["slices"]:
            raw = paths[part["object"]].read_bytes()[part["begin"] : part["end"]]
            assert hashlib.sha256(raw).hexdigest() == part["sha256"]
            with safe_open(paths[part["object"]], "pt") as file:
                data = file.get_tensor(part["key"])
            assert raw == data.numpy().tobytes() and len(raw) <= 60
            box = tuple(slice(o, o + n) for o, n in zip(part["offset"], part["shape"], strict=True))
            found[name][box] = data
    assert len(index["tensors"]["model.embedding.weight"]["slices"]) == 6, "6 and 5 rows of 24 bytes, two in a slice"
    steps = {name for name in whole if name.startswith("step.")}
    assert found.keys() == (whole.keys() - steps) | {"step"}, "AdamW's step counts are all the same"
    assert all(torch.equal(found[name], whole[name]) for name in found.keys() & whole.keys())
    assert same(read_tensors(store, manifest), {k[6:]: v for k, v in whole.items() if k.startswith("model.")})


def test_the_index_comes_back_as_written(two: tuple[Path, list[float]]) -> None:
    store, manifest = newest(two[0])
    index = read_index(store, manifest)
    assert Index.from_bytes(index.to_bytes(), "there") == index and index.world == 2


def layouts(rank: int, world: int) -> None:
    """Compare with torch's own function, for cuts of odd shapes and for a mesh of replicas."""
    flat, hybrid = init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2))
    for mesh, places in (
        (flat, [Shard(0)]), (flat, [Shard(1)]), (flat, [Replicate()]), (hybrid, [Replicate(), Shard(0)]),
        (hybrid, [Shard(0), Replicate()]), (hybrid, [Shard(0), Shard(1)]), (hybrid, [Shard(0), Shard(0)]),
    ):  # fmt: skip
        for rows in (1, 2, 3, 5, 8, 11):
            whole = torch.arange(rows * 3).reshape(rows, 3)
            tensor = distribute_tensor(whole, mesh, places)
            local, (offset, shape), writes = local_part(tensor, "x")
            expected = compute_local_shape_and_global_offset(whole.shape, mesh, places)
            assert shape == tuple(expected[0]) == tuple(local.shape)
            if prod(shape):
                assert offset == tuple(expected[1])
                assert torch.equal(local, whole[tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))])
            count = torch.tensor(prod(shape) if writes else 0)
            dist.all_reduce(count)
            assert count == rows * 3, "every element is written once"
            assert isinstance(tensor, DTensor)


def test_parts_of_ranks_are_those_that_torch_gives_them(tmp_path: Path) -> None:
    run_ranks(4, layouts, tmp_path)


def test_a_checkpoint_of_step_0_empties_the_optimizer(two: tuple[Path, list[float]]) -> None:
    folder, losses = two
    trainer = Trainer(run_file(str(folder / "store"), name="again"), shard=False)
    trainer.train(2)
    store = ArtifactStore(str(folder / "store"))
    first = store.manifest(store.resolve("checkpoint/small@step0-tokens0B"))
    trainer.step = trainer.checkpoints.load(first).step
    assert trainer.train(3) == pytest.approx(losses[:3], rel=1e-6)


def test_a_parameter_that_never_had_a_gradient_has_no_state(tmp_path: Path) -> None:
    run = run_file(str(tmp_path / "store"))
    trainer = Trainer(run, shard=False)
    trainer.model.gain.requires_grad_(False)
    trainer.train(2)
    trainer.save()
    other = Trainer(run, seed=3, shard=False)
    other.train(1)  # now it has some
    other.load()
    state = other.optimizer.state[other.model.gain]
    assert all(not value.any() for value in state.values())
    fresh = Trainer(run, seed=4, shard=False)
    fresh.load()
    assert same(fresh.whole(), trainer.whole())


def test_the_state_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    run = run_file(str(tmp_path / "store"))
    trainer = Trainer(run, shard=False)
    trainer.train(1)
    trainer.save()
    manifest = trainer.checkpoints.latest()
    assert manifest is not None
    for make in (
        lambda p: torch.optim.SGD(p, momentum=0.9),
        lambda p: torch.optim.AdamW(p, amsgrad=True),
    ):
        other = Trainer(run, shard=False)
        optimizer = make(other.model.parameters())
        other.optimizer = optimizer
        other.train(1)
        other.checkpoints = Checkpointer(other.store, run, other.epoch, other.model, optimizer)
        with pytest.raises(RecipeError, match=r"optimizer state .*it has no (momentum_buffer|max_exp_avg_sq)\."):
            other.checkpoints.load(manifest)


def test_steps_of_parameters_may_differ(tmp_path: Path) -> None:
    run = run_file(str(tmp_path / "store"))
    trainer = Trainer(run, shard=False)
    trainer.train(1)
    trainer.optimizer.state[trainer.model.gain]["step"] += 4
    trainer.save()
    other = Trainer(run, seed=3, shard=False)
    other.load()
    assert same(other.whole(), trainer.whole())
    assert other.optimizer.state[other.model.gain]["step"].item() == 5
