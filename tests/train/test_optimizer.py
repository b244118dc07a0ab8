"""AdamW: which parameters are decayed, steps as torch's own takes them, and steps that are left out entirely."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from olmo_core.model.initialization import initialize
from olmo_core.model.transformer import Transformer
from olmo_core.train.optimizer import apply_gradients, build_optimizer, squared_norm
from olmo_core.train.recipe import OptimizerRecipe
from tests.train.tiny_run import MODEL

RECIPE = OptimizerRecipe(learning_rate=0.02)


def model(**changes: object) -> Transformer:
    """A tiny model with weights."""
    made = Transformer(replace(MODEL, **changes))  # type: ignore[arg-type]
    initialize(made, 1)
    return made


def give_gradients(module: nn.Module, seed: int, scale: float = 1.0) -> Tensor:
    """Draw a gradient for each parameter; returns their global norm."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.grad = scale * torch.randn(parameter.shape, generator=generator)
    return squared_norm([p.grad for p in module.parameters() if p.grad is not None], torch.device("cpu")).sqrt()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("embeddings", "norms"), [(False, False), (True, True), (True, False)])
def test_embeddings_and_norms_are_decayed_only_where_asked(tied: bool, embeddings: bool, norms: bool) -> None:
    one = model(tied=tied, norm="layer_affine")
    optimizer = build_optimizer(one, replace(RECIPE, decay_embeddings=embeddings, decay_norms=norms))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert len(decay) == len(list(one.parameters()))
    for name, parameter in one.named_parameters():
        asked = embeddings if name == "embedding.weight" else norms if parameter.dim() == 1 else True
        assert decay[id(parameter)] == (0.1 if asked else 0.0), name
    if not tied:
        assert decay[id(one.get_parameter("output.weight"))] == 0.1


@pytest.mark.parametrize("clip", [None, 1.0, 1e6])
def test_steps_are_those_of_torch(clip: float | None) -> None:
    one, other = model(tied=False, norm="rms"), model(tied=False, norm="rms")
    optimizer = build_optimizer(one, RECIPE)
    plain, bare = [], []
    for name, parameter in other.named_parameters():
        (bare if "embedding" in name or parameter.dim() == 1 else plain).append(parameter)
    reference = torch.optim.AdamW(
        [{"params": plain, "weight_decay": 0.1}, {"params": bare, "weight_decay": 0.0}],
        lr=0.02, betas=(0.9, 0.95), eps=1e-5, foreach=False, fused=False,
    )  # fmt: skip
    for step in range(5):
        norm = give_gradients(one, step)
        give_gradients(other, step)
        apply_gradients(
            optimizer, learning_rate=0.02 / (step + 1), norm=norm, clip_norm=clip, leave_out=torch.tensor(False)
        )
        if clip is not None:
            assert torch.nn.utils.clip_grad_norm_(other.parameters(), clip).item() == pytest.approx(
                norm.item(), rel=1e-6
            )
        for group in reference.param_groups:
            group["lr"] = 0.02 / (step + 1)
        reference.step()
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_step_that_is_left_out_changes_nothing(bad: float) -> None:
    one, other = model(), model()
    optimizer, reference = build_optimizer(one, RECIPE), build_optimizer(other, RECIPE)
    good = torch.tensor(False)
    for module, its in ((one, optimizer), (other, reference)):
        apply_gradients(its, learning_rate=0.02, norm=give_gradients(module, 1), clip_norm=1.0, leave_out=good)
    before = [[value.clone() for value in (p, *optimizer.state[p].values())] for p in one.parameters()]
    give_gradients(one, 2)
    for parameter in one.parameters():
        assert parameter.grad is not None
        parameter.grad.view(-1)[0] = bad
    norm = squared_norm([p.grad for p in one.parameters() if p.grad is not None], torch.device("cpu")).sqrt()
    apply_gradients(optimizer, learning_rate=0.02, norm=norm, clip_norm=1.0, leave_out=torch.tensor(True))
    for parameter, old in zip(one.parameters(), before, strict=True):
        for now, then in zip((parameter, *optimizer.state[parameter].values()), old, strict=True):
            assert torch.equal(now, then)
    # And the next one is as if it had never been.
    for module, its in ((one, optimizer), (other, reference)):
        apply_gradients(its, learning_rate=0.02, norm=give_gradients(module, 3), clip_norm=1.0, leave_out=good)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
