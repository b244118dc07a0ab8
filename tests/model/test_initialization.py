"""Initial weights: published statistics, and the same values on whatever device and however sharded."""

from __future__ import annotations

import math

import pytest
import torch

from olmo_core.errors import RecipeError
from olmo_core.model.initialization import ROWS, initialize
from olmo_core.model.transformer import Transformer
from tests.model.samples import small


def test_mitchell_has_the_published_deviations() -> None:
    recipe = small(width=256, layers=2, mlp_width=384, embedding_rows=1536)
    model = Transformer(recipe)
    initialize(model, 7)
    # A normal distribution cut at 3 deviations keeps 0.98658 of its deviation.
    wanted = {
        "embedding.weight": 1 / 16,
        "output.weight": 1 / 16,
        "blocks.1.attention.qkv.weight": 1 / 16,
        "blocks.1.mlp.up_gate.weight": 1 / 16,
        "blocks.0.attention.output.weight": 1 / math.sqrt(2 * 256 * 1),
        "blocks.1.attention.output.weight": 1 / math.sqrt(2 * 256 * 2),
        "blocks.1.mlp.down.weight": 1 / math.sqrt(2 * 384 * 2),
    }
    for name, deviation in wanted.items():
        values = model.get_parameter(name)
        assert float(values.detach().std()) == pytest.approx(0.98658 * deviation, rel=0.01), name
        assert values.abs().max() <= 3 * deviation, name
        assert values.abs().max() > 2.9 * deviation, name
        assert abs(float(values.detach().mean())) < 0.01 * deviation, name


def test_normal_and_norms() -> None:
    model = Transformer(small(initialization="normal", norm="layer_affine"))
    initialize(model, 7)
    assert float(model.embedding.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert (model.blocks[0].attention_norm.weight == 1).all()  # type: ignore[union-attr]
    assert (model.blocks[0].mlp_norm.bias == 0).all()  # type: ignore[union-attr]


def test_values_depend_on_seed_and_name_only() -> None:
    recipe = small()
    first, again, other = Transformer(recipe), Transformer(recipe), Transformer(recipe)
    with torch.device("meta"):
        meta = Transformer(recipe)
    torch.manual_seed(5)
    initialize(first, 1)
    meta.to_empty(device="cpu")
    for model, seed in ((again, 1), (other, 2), (meta, 1)):
        initialize(model, seed)
    for name, values in first.named_parameters():
        assert torch.equal(values, again.get_parameter(name)) and torch.equal(values, meta.get_parameter(name))
        assert not torch.equal(values, other.get_parameter(name))
    blocks = first.blocks
    assert not torch.equal(blocks[0].mlp.up_gate.weight, blocks[1].mlp.up_gate.weight)  # type: ignore[union-attr]


def test_rows_of_a_large_table_come_block_by_block() -> None:
    """A larger table has the same first rows: what a rank draws for its slice is independent of the others."""
    few, many = Transformer(small(embedding_rows=ROWS)), Transformer(small(embedding_rows=2 * ROWS + 5))
    initialize(few, 1)
    initialize(many, 1)
    assert torch.equal(few.embedding.weight, many.embedding.weight[:ROWS])
    assert not torch.equal(many.embedding.weight[:ROWS], many.embedding.weight[ROWS : 2 * ROWS])


def test_parameters_without_memory_are_refused() -> None:
    with torch.device("meta"):
        model = Transformer(small())
    with pytest.raises(RecipeError, match="to_empty"):
        initialize(model, 1)
