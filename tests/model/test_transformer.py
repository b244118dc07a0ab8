"""The model equals transformers' OLMo bit by bit, and a plain implementation for the options that OLMo has not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from olmo_core.errors import InputError
from olmo_core.model.config import ModelRecipe, preset
from olmo_core.model.transformer import Transformer
from tests.model.naive import naive_logits
from tests.model.peers import their_names, theirs
from tests.model.samples import next_tokens, ours, small, tokens

OLMO = [{"tied": True}, {"tied": False}, {"clip_qkv": 0.5}, {"rope_theta": 500.0}]
OPTIONS = [
    {"norm": "rms"},
    {"norm": "layer_affine"},
    {"kv_heads": 2},
    {"kv_heads": 1},
    {"block": "parallel"},
    {"activation": "gelu"},
    {"block": "parallel", "norm": "rms", "activation": "gelu", "kv_heads": 2, "tied": True, "clip_qkv": 0.5},
]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Size of the difference over the size of `b`."""
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("changed", OLMO, ids=str)
def test_logits_are_those_of_olmo(changed: dict[str, Any]) -> None:
    model = ours(small(**changed))
    ids = tokens(2, 64)
    with torch.no_grad():
        logits, expected = model(ids), theirs(model)(ids).logits
        last = model(ids, last=True)
    assert (logits - expected).abs().max() == 0
    assert last.shape == (2, 1, 512) and torch.allclose(last, logits[:, -1:], atol=1e-5)


@pytest.mark.parametrize("changed", OLMO, ids=str)
def test_loss_and_gradients_are_those_of_olmo(changed: dict[str, Any]) -> None:
    model = ours(small(**changed))
    peer = theirs(model).train()
    ids = tokens(2, 64)
    losses = model(ids, labels_BT=next_tokens(ids))
    (losses.total / losses.tokens).backward()
    loss = peer(ids, labels=ids).loss
    loss.backward()
    assert losses.tokens == 2 * 63 and losses.z_loss == 0
    assert float(losses.cross_entropy.detach() / losses.tokens) == pytest.approx(float(loss.detach()), rel=1e-6)
    gradients = their_names({name: p.grad for name, p in model.named_parameters()}, model.recipe)
    for name, parameter in peer.named_parameters():
        assert relative(gradients[name], parameter.grad) < 1e-5, name


@pytest.mark.parametrize("changed", [{"norm": "rms"}, {"norm": "rms", "kv_heads": 2, "tied": True}], ids=str)
def test_rms_and_shared_heads_are_those_of_llama(changed: dict[str, Any]) -> None:
    model = ours(small(**changed))
    ids = tokens(2, 40)
    with torch.no_grad():
        assert torch.allclose(model(ids), theirs(model)(ids).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changed", OPTIONS, ids=str)
def test_options_equal_a_plain_implementation(changed: dict[str, Any]) -> None:
    model = ours(small(layers=2, **changed)).double()
    ids = tokens(1, 12)
    labels = next_tokens(ids)
    logits = model(ids)
    parameters = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    expected = naive_logits(parameters, model.recipe, ids[0].tolist())
    # Rotary tables are float32 by definition: 1e-7 of difference to exact angles.
    assert torch.allclose(logits[0], expected, atol=2e-5)
    nn.functional.cross_entropy(logits[0], labels[0]).backward()
    nn.functional.cross_entropy(expected, labels[0]).backward()
    for name, parameter in model.named_parameters():
        assert relative(parameter.grad, parameters[name].grad) < 1e-4, name  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["tiny", "20m", "150m", "1b", "7b", "65b"])
def test_presets_have_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = Transformer(preset(name))
    count = sum(p.numel() for p in model.parameters())
    assert count == preset(name).parameters
    published = {"1b": 1_176_764_416, "7b": 6_888_095_744, "65b": 65_584_234_496}
    assert count == published.get(name, count)


@pytest.mark.parametrize("changed", OPTIONS, ids=str)
def test_parameters_are_counted_right(changed: dict[str, Any]) -> None:
    recipe = small(**changed)
    assert sum(p.numel() for p in Transformer(recipe).parameters()) == recipe.parameters


def test_documents_are_as_if_apart() -> None:
    model = ours(small())
    ids = tokens(2, 48)
    lengths = [[20, 1, 27], [5, 43]]
    documents = torch.stack(
        [torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row)) for row in lengths]
    ).int()
    with torch.no_grad():
        together = model(ids, documents_BT=documents)
        for b, row in enumerate(lengths):
            start = 0
            for length in row:
                part = slice(start, start + length)
                places = torch.arange(start, start + length)
                apart = model(ids[b : b + 1, part], positions=places)
                assert torch.allclose(together[b : b + 1, part], apart, atol=1e-5)
                # RoPE knows distances only: places need not be shifted, but for rounding.
                assert torch.allclose(together[b : b + 1, part], model(ids[b : b + 1, part]), atol=1e-4)
                start += length


def test_documents_have_gradients_as_if_apart() -> None:
    model = ours(small(layers=2))
    ids, lengths = tokens(1, 30), [11, 19]
    documents = torch.repeat_interleave(torch.arange(2), torch.tensor(lengths))[None]
    labels = next_tokens(ids)
    model(ids, labels_BT=labels, documents_BT=documents).total.backward()
    together = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for part in (slice(0, 11), slice(11, 30)):
        model(ids[:, part], labels_BT=labels[:, part]).total.backward()
    for name, parameter in model.named_parameters():
        assert relative(together[name], parameter.grad) < 1e-5, name  # type: ignore[arg-type]


def test_too_long_a_row_is_refused() -> None:
    with pytest.raises(InputError, match=r"129 tokens are more than the model's context of 128"):
        ours(small())(tokens(1, 129))


def test_recipe_has_no_dropout_and_no_bias() -> None:
    names = [name for name, _ in Transformer(ModelRecipe(width=8, layers=1, heads=2, mlp_width=8)).named_parameters()]
    assert names == [
        "embedding.weight",
        "blocks.0.attention.qkv.weight",
        "blocks.0.attention.output.weight",
        "blocks.0.mlp.up_gate.weight",
        "blocks.0.mlp.down.weight",
        "output.weight",
    ]
