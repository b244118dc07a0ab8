"""Sharding leaves names and losses as they are; blocks share one compiled graph; bfloat16 keeps float32 state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from olmo_core.model.initialization import initialize
from olmo_core.model.loss import Losses
from olmo_core.model.transformer import Transformer
from olmo_core.train.run_file import Recompute
from olmo_core.train.sharding import initialize_sharded, shard
from tests.train.tiny_run import MODEL

TOKENS = torch.arange(32).reshape(2, 16) % 60
LABELS = (TOKENS + 1) % 60


@pytest.fixture(scope="module")
def mesh() -> Iterator[DeviceMesh]:
    """A mesh of this process alone."""
    dist.init_process_group("gloo", rank=0, world_size=1, store=HashStore())
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def loss(model: Transformer) -> Losses:
    """Its losses on the tokens above, with gradients."""
    losses = model(TOKENS, labels_BT=LABELS)
    assert isinstance(losses, Losses)
    losses.total.backward()  # type: ignore[no-untyped-call]
    return losses


@pytest.mark.parametrize("recompute", ["none", "block"])
def test_names_and_losses_are_those_of_the_plain_model(mesh: DeviceMesh, recompute: Recompute) -> None:
    plain, sharded = Transformer(MODEL), Transformer(MODEL)
    initialize(plain, 1)
    shard(sharded, mesh, precision="float32", recompute=recompute)
    initialize_sharded(sharded, 1)
    assert [name for name, _ in sharded.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert torch.equal(loss(sharded).total, loss(plain).total)
    for mine, theirs in zip(sharded.parameters(), plain.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        torch.testing.assert_close(mine.grad.full_tensor(), theirs.grad, rtol=1e-5, atol=1e-6)  # type: ignore[attr-defined]


def test_bfloat16_is_of_the_products_only(mesh: DeviceMesh) -> None:
    model = Transformer(MODEL)
    shard(model, mesh, precision="bfloat16")
    initialize_sharded(model, 1)
    exact = Transformer(MODEL)
    initialize(exact, 1)
    found = loss(model)
    assert found.total.dtype == torch.float32
    difference = abs(found.total.item() / loss(exact).total.item() - 1)
    assert 0 < difference < 0.01
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize("recompute", ["none", "cheap", "block"])
def test_all_blocks_share_one_compiled_graph_and_the_losses_have_theirs(mesh: DeviceMesh, recompute: Recompute) -> None:
    compiled = 0

    def count(graph: Any, examples: Any) -> Any:
        nonlocal compiled
        compiled += 1
        return graph.forward

    torch._dynamo.reset()
    model = Transformer(replace(MODEL, layers=10))  # more than torch recompiles one function (8 times)
    shard(model, mesh, precision="bfloat16", compiled=True, recompute=recompute, backend=count)
    initialize_sharded(model, 1)
    losses = [loss(model).total.item() for _ in range(2)]
    assert losses[0] == losses[1]
    assert compiled == 2
