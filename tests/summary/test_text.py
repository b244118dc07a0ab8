"""Sparklines, tables and costs of a summary, without a chain behind them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.errors import RecipeError
from olmo_core.evaluation.recipe import load_evaluation_recipe
from olmo_core.report.evaluation.rows import Table
from olmo_core.summary import costs
from olmo_core.summary.recipe import RECIPES, DataToModelRecipe, Prices, SamplePart, load_data_to_model
from olmo_core.summary.text import plain, sparkline


def manifest(**values: Any) -> Manifest:
    ref = ArtifactRef(kind=Kind.RUN, name="r", fingerprint="0" * 64)
    base = {
        "ref": ref,
        "stage": "training",
        "version": 1,
        "recipe": {},
        "inputs": {},
        "attempt": "a",
        "shards": (),
        "ledger": Ledger(),
    }
    return Manifest(**{**base, **values})


@pytest.mark.parametrize(
    ("values", "line"),
    [([], ""), ([math.nan], ""), ([2.0, 2.0], "▁▁"), ([0, 7], "▁█"), ([8, 4, 1, math.inf, 0], "█▅▂▁"), (list(range(8)), "▁▂▃▄▅▆▇█")],
)  # fmt: skip
def test_sparkline(values: list[float], line: str) -> None:
    """Lowest to highest; what is not finite is left out."""
    assert sparkline(values) == line


def test_a_long_curve_is_averaged() -> None:
    """A thousand losses in sixty characters, falling as they fall."""
    line = sparkline([1 / (1 + i) for i in range(1000)])
    assert len(line) == 60 and line[0] == "█" and line[-1] == "▁"


def test_costs_of_a_run_on_processors_and_on_gpus() -> None:
    """Seconds of the steps times devices, times the cores of a device; money by the stated price; energy only where it was metered."""
    steps = [{"seconds": 1800.0}, {"seconds": 1800.0}, {"held_out_loss": 3.0}]
    cpu = costs.trained(manifest(counts={"devices": 1, "device": "cpu"}, environment={"cores": 2}), steps)
    assert (cpu.cpu_hours, cpu.gpu_hours, cpu.kwh) == (2.0, 0.0, None)
    gpu = costs.trained(manifest(counts={"devices": 8, "device": "cuda", "energy_kwh": 5.6}), steps)
    assert (gpu.cpu_hours, gpu.gpu_hours, gpu.kwh) == (0.0, 8.0, 5.6)
    corpus = costs.counted("corpus", [manifest(cpu_seconds=1800.0), manifest(cpu_seconds=1800.0)])
    whole = costs.total([corpus, cpu, gpu])
    assert (whole.cpu_hours, whole.gpu_hours, whole.kwh) == (3.0, 8.0, 5.6)
    assert whole.money(Prices(cpu_hour=0.5, gpu_hour=2.0)) == 17.5
    assert whole.money(Prices(cpu_hour=0.5)) is None and corpus.money(Prices(cpu_hour=0.5)) == 0.5
    rows = costs.rows([corpus, gpu], Prices(cpu_hour=0.5))
    assert [row[3] for row in rows] == ["not metered", "5.6 kWh", "5.6 kWh"]
    assert [row[4] for row in rows] == ["0.5000 USD", "no price", "no price"]


def test_a_table_for_a_terminal() -> None:
    """Names and words to the left, numbers to the right."""
    lines = plain(Table(("name", "n", "why"), [("a", "1", "no"), ("long", "100", "so")]))
    assert lines == ["name    n  why", "a       1  no", "long  100  so"]


def test_recipes_that_are_here_load_with_what_they_name() -> None:
    """`make quickstart` takes one of them."""
    from olmo_core.curation.corpus_recipe import load_recipe
    from olmo_core.train.overrides import recipe_with

    assert (RECIPES / "quickstart.yaml").is_file()
    for path in RECIPES.glob("*.yaml"):
        recipe = load_data_to_model(path.stem)
        load_recipe(recipe.corpus.recipe, recipe.corpus.overrides)
        recipe_with(recipe.training.recipe, recipe.training.overrides)
        for name in filter(None, (recipe.evaluation.recipe, recipe.evaluation.otherwise)):
            load_evaluation_recipe(name)


def test_wrong_numbers_are_refused() -> None:
    """The field and what it may be."""
    recipe = load_data_to_model("quickstart")
    with pytest.raises(RecipeError, match="sample: 0 tokens"):
        replace(recipe, sample=SamplePart(tokens=0))
    with pytest.raises(RecipeError, match=r"evaluation.limit: 0"):
        replace(recipe, evaluation=replace(recipe.evaluation, limit=0))
    assert isinstance(recipe, DataToModelRecipe)
