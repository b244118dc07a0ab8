"""The model of a checkpoint, whole, for generation, conversion and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.fsdp import fully_shard

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError, RecipeError
from olmo_core.model.config import ModelRecipe
from olmo_core.model.initialization import initialize
from olmo_core.model.transformer import Transformer
from olmo_core.storage import Storage
from olmo_core.train.checkpoint import Checkpointer
from olmo_core.train.checkpoint_read import load_model, read_index
from olmo_core.train.state import TrainState
from tests.train.processes import run_ranks
from tests.train.small_run import run_file

SHAPE: dict[str, Any] = {
    "width": 16, "layers": 2, "heads": 2, "mlp_width": 24, "vocabulary": 50, "embedding_rows": 53, "context": 16,
    "end_of_text_id": 49,
}  # fmt: skip
STATE = TrainState(step=1, tokens=32, next_batch=1)


def model_of(tied: bool) -> ModelRecipe:
    return ModelRecipe(**SHAPE, tied=tied)


def save(rank: int, world: int, uri: str, tied: bool) -> None:
    """Train one step, sharded, and save."""
    model = Transformer(model_of(tied))
    initialize(model, 3)
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    tokens_BT = torch.arange(32).reshape(2, 16)
    model(tokens_BT, labels_BT=tokens_BT.roll(-1)).total.backward()
    optimizer.step()
    run = run_file(uri, model=model_of(tied))
    Checkpointer(ArtifactStore(uri), run, 1, model, optimizer).save(STATE, wait=True)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def uri(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with the checkpoint of a model trained on two ranks."""
    folder = tmp_path_factory.mktemp("model")
    run_ranks(2, save, folder, str(folder / "store"), request.param)
    return str(folder / "store")


def test_the_model_is_the_one_that_was_trained(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(uri)
    tied = store.manifest(store.resolve("checkpoint/small")).recipe["model"]["tied"]
    expected = Transformer(model_of(tied))
    initialize(expected, 3)
    optimizer = torch.optim.AdamW(expected.parameters(), lr=0.01)
    tokens_BT = torch.arange(32).reshape(2, 16)
    expected(tokens_BT, labels_BT=tokens_BT.roll(-1)).total.backward()
    optimizer.step()
    read, asked = Storage.read, []

    def reading(self: Storage, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        asked.append((path.endswith(".safetensors"), length))
        return read(self, path, start=start, length=length)

    monkeypatch.setattr(Storage, "read", reading)
    model = load_model(store, "checkpoint/small@latest")
    assert not model.training and (model.output is None) == tied
    torch.testing.assert_close(model.state_dict(), expected.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(tokens_BT), expected(tokens_BT))
    sizes = sum(length for shard, length in asked if shard and length)
    assert sizes == sum(4 * p.numel() for p in expected.parameters()), "no byte of the optimizer's"


def test_in_another_precision(uri: str) -> None:
    store = ArtifactStore(uri)
    ref = store.resolve("checkpoint/small")
    whole, half = load_model(store, ref), load_model(store, ref, dtype=torch.bfloat16)
    for one, other in zip(whole.parameters(), half.parameters(), strict=True):
        assert other.dtype == torch.bfloat16 and torch.equal(one.to(torch.bfloat16), other)


def test_what_is_not_there_or_damaged(uri: str) -> None:
    store = ArtifactStore(uri)
    with pytest.raises(RecipeError, match="there is no checkpoint/small@step9-tokens0B"):
        load_model(store, "checkpoint/small@step9-tokens0B")
    manifest = store.manifest(store.resolve("checkpoint/small"))
    part = read_index(store, manifest).tensors["model.blocks.1.mlp.down.weight"].slices[1]
    full = Path(uri) / manifest.object(part.object).path
    good = full.read_bytes()
    full.write_bytes(good[: part.begin] + bytes([good[part.begin] ^ 1]) + good[part.begin + 1 :])
    with pytest.raises(
        IntegrityError, match="the checkpoint of step 1, .* is damaged: .*model.blocks.1.mlp.down.weight"
    ):
        load_model(store, "checkpoint/small")
    full.write_bytes(good)
