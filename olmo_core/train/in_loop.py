"""Benchmarks asked of the model amid its training, by the code that evaluates checkpoints: items, scoring, metrics.

The model stays sharded as it is: every rank asks the same requests in the same order, so that parameters can be gathered,
and all get the same numbers. So a limit of about a hundred items is what it is for; whole benchmarks are evaluate-olmo's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from olmo_core import assets
from olmo_core.errors import RecipeError
from olmo_core.evaluation.ask import ask
from olmo_core.evaluation.benchmarks.definitions import SUITES, definition
from olmo_core.evaluation.benchmarks.loading import load
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.items import Items, Selection
from olmo_core.evaluation.language_model import OwnModel
from olmo_core.evaluation.results import benchmark_results
from olmo_core.model.transformer import Transformer
from olmo_core.train.metrics import BENCHMARKS
from olmo_core.train.run_file import RunFile
from olmo_core.train.sharding import reshard

_BATCH_TOKENS = 8192


class InLoop:
    """The items that a run asks for, ready to be asked."""

    def __init__(self, run: RunFile, items: list[Items], encoder: Encoder) -> None:
        self._items, self._encoder = items, encoder
        self._dtype = getattr(torch, run.recipe.precision)

    def numbers(self, model: Transformer, at: Callable[[str], None]) -> dict[str, float]:
        """Return the fields of a line of metrics; collective, waits for the device. `at`: told before each benchmark."""
        # Hidden states, and so what is kept of shared beginnings, have the type that parameters are gathered in.
        scorer = Scorer(OwnModel(model, "in the loop", dtype=self._dtype), batch_tokens=_BATCH_TOKENS)
        found: dict[str, float] = {}
        try:
            for items in self._items:
                name, primary = items.benchmark.name, items.benchmark.primary
                at(f"asking {name}")
                results, _ = benchmark_results(items, ask(self._encoder, items.items, scorer))
                score, bits = results["metrics"][primary], results["metrics"]["bits_per_byte"]["value"]
                found |= {f"{BENCHMARKS}{name}/{primary}": score["value"], f"{BENCHMARKS}{name}/bits_per_byte": bits}
                found |= {f"{BENCHMARKS}{name}/{end}": score[end] for end in ("low", "high")}
        finally:
            model.train()
            reshard(model)
        return {key: value for key, value in found.items() if value == value}


def open_in_loop(run: RunFile) -> InLoop:
    """Read items and tokenizer. Raises RecipeError, naming the field, for what is no benchmark or fits the model not."""
    resources = run.resources
    names = list(dict.fromkeys(one for name in resources.evaluate_benchmarks for one in SUITES.get(name, (name,))))
    items = []
    for name in names:
        benchmark = definition(name, "in_loop").benchmark
        if benchmark.generation is not None:
            raise RecipeError(
                f"resources.evaluate_benchmarks: {name} is generated; evaluate-olmo asks it of checkpoints"
            )
        items.append(load(benchmark, Selection(limit=resources.evaluate_limit)))
    encoder = Encoder(assets.fetch(resources.evaluate_tokenizer))
    if encoder.vocabulary > run.recipe.model.embedding_rows:
        raise RecipeError(
            f"resources.evaluate_tokenizer: {resources.evaluate_tokenizer} has {encoder.vocabulary} ids, the model has "
            f"{run.recipe.model.embedding_rows} embedding rows: it is not the tokenizer of these tokens"
        )
    return InLoop(run, items, encoder)
