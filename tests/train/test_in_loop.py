"""Benchmarks asked amid training: the numbers are those of evaluating the checkpoint, on any number of ranks; training is not touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import RecipeError
from olmo_core.evaluation.compare import read_evaluation
from olmo_core.evaluation.recipe import BenchmarkRecipe, EvaluationRecipe
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.run import evaluate
from olmo_core.evaluation.targets import find_targets
from olmo_core.train.checkpoint_read import read_tensors
from olmo_core.train.run_file import DONE, RunFile
from olmo_core.train.session import train
from tests.train.tiny_run import MODEL, Job, metrics, tiny_run, with_resources

WIDE = replace(MODEL, width=16, vocabulary=50280, embedding_rows=50304, end_of_text_id=50279, context=256)
"""Very narrow, but with a row for every token of the tokenizer."""
ASKED: dict[str, Any] = {"evaluate_benchmarks": ("copa",), "evaluate_limit": 12}


def numbers(run: RunFile, step: int) -> dict[str, float]:
    return {key: value for key, value in metrics(run)[step].items() if key.startswith("benchmarks/")}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [0, 2])
def test_the_numbers_are_those_of_the_checkpoint(tmp_path: Path, ranks: int) -> None:
    run = tiny_run(tmp_path, steps=4, save_every=2, model=WIDE, **ASKED)
    if ranks:
        job = Job(run, tmp_path, ranks)
        assert job.wait() == DONE, job.output
    else:
        assert train(run) == DONE
    store = ArtifactStore(run.store)
    recipe = EvaluationRecipe(name="same", benchmarks=(BenchmarkRecipe(name="copa", format="in_loop", limit=12),))
    for target in find_targets(store, ["checkpoint/toy@step*"]):
        built = evaluate(store, recipe, target, ScoringResources(device="cpu", scores=str(tmp_path / "scores")))
        one = read_evaluation(store, built.manifest)
        assert one.step is not None
        found, wanted = numbers(run, one.step), one.results["copa-in-loop"]["metrics"]
        for end in ("low", "high"):
            assert found[f"benchmarks/copa/{end}"] == wanted["acc_raw"][end]
        assert found["benchmarks/copa/acc_raw"] == wanted["acc_raw"]["value"]
        assert found["benchmarks/copa/bits_per_byte"] == pytest.approx(wanted["bits_per_byte"]["value"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_is_not_touched(tmp_path: Path, precision: str) -> None:
    """The same parameters, bit for bit, with benchmarks asked and without; a benchmark with shared beginnings among them."""
    made = []
    for name, asked in (("with", {**ASKED, "evaluate_benchmarks": ("copa", "sciq")}), ("without", {})):
        run = tiny_run(tmp_path / name, steps=4, save_every=2, model=WIDE, precision=precision, **asked)
        assert train(run) == DONE
        store = ArtifactStore(run.store)
        made.append(read_tensors(store, store.manifest(run.checkpoint(4)), prefix=""))
        assert bool(numbers(run, 4)) is bool(asked)
    assert all(torch.equal(tensor, made[1][key]) for key, tensor in made[0].items())


def test_what_cannot_be_asked_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    for asked, said in (
        ({"evaluate_benchmarks": ("copper",)}, "no benchmark 'copper'"),
        ({"evaluate_benchmarks": ("gsm8k",)}, "gsm8k is generated"),
        ({"evaluate_benchmarks": ("truthfulqa_mc2",)}, "no format 'in_loop'"),
        ({"evaluate_limit": 0}, "evaluate_limit: 0"),
    ):
        with pytest.raises(RecipeError, match=said):
            train(with_resources(tiny_run(tmp_path), **asked))
    assert not list((tmp_path / "store").glob("checkpoint/*"))


@pytest.mark.slow
def test_a_tokenizer_with_more_ids_than_the_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="50280 ids, the model has 64 embedding rows"):
        train(with_resources(tiny_run(tmp_path), **ASKED))
