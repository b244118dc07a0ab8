"""Scores equal to lm-eval 0.4.13's on the nine core benchmarks and by its Paloma rule, for a random and a trained model.

Golden file: tests/oracles/evaluation_scores_golden.py, made by lm-eval in its own environment on the same real data. Slow,
for the data's sake (see test_peers).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from olmo_core import assets
from olmo_core.evaluation.ask import ask
from olmo_core.evaluation.benchmarks.definitions import CORE, find
from olmo_core.evaluation.benchmarks.loading import load
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.items import Item, Selection
from olmo_core.evaluation.language_model import HuggingFaceModel, LanguageModel, OwnModel
from olmo_core.evaluation.metrics import evaluate
from olmo_core.evaluation.perplexity import Document, domains, score_documents
from olmo_core.evaluation.requests import Request
from olmo_core.model.config import ModelRecipe
from olmo_core.model.hugging_face_names import from_hugging_face, recipe_of
from olmo_core.model.transformer import Transformer
from tests.oracles import evaluation_models
from tests.oracles.evaluation_documents import documents

pytestmark = pytest.mark.slow
HERE = Path(__file__).resolve().parent
GOLDEN: dict[str, Any] = json.loads((HERE / "golden" / "lm_eval_scores.json").read_text())
CLOSE = 1e-4
MODELS = ("random", "trained")
ITEMS = 40


@cache
def encoder() -> Encoder:
    return Encoder(assets.fetch("olmo-tokenizer"))


@cache
def weights(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in evaluation_models.weights(name).items()}


@cache
def own(name: str) -> LanguageModel:
    """As one of our models."""
    recipe: ModelRecipe = recipe_of({**evaluation_models.CONFIG, "model_type": "olmo"}, "config")
    model = Transformer(recipe)
    with torch.no_grad():
        parameters = dict(model.named_parameters())
        for key, tensor in from_hugging_face(recipe, weights(name).__getitem__):
            parameters.pop(key).copy_(tensor)
    assert not parameters
    return OwnModel(model, name)


@cache
def transformers_own(name: str) -> LanguageModel:
    """As transformers computes it."""
    import transformers

    model = transformers.OlmoForCausalLM(transformers.OlmoConfig(**evaluation_models.CONFIG))
    model.load_state_dict(weights(name), strict=False)
    model.tie_weights()
    return HuggingFaceModel(model, name)


def token_hash(context: list[int], continuation: list[int]) -> str:
    return hashlib.sha256(json.dumps([context, continuation]).encode()).hexdigest()[:16]


@cache
def items(name: str) -> tuple[Item, ...]:
    """The first items of the file, as lm-eval takes them, in its words where they are others than Catwalk's (test_peers):
    SciQ as the in-loop format asks it; two spaces before COPA's choices.
    """
    found = load(find(name, "in_loop" if name == "sciq" else "catwalk"), Selection(limit=ITEMS, seed=None)).items
    if name == "copa":
        return tuple(replace(item, choices=tuple(f" {choice}" for choice in item.choices)) for item in found)
    return found


@pytest.mark.parametrize("name", CORE)
def test_the_same_tokens_are_asked(name: str) -> None:
    """lm-eval encodes context and continuation together and cuts; we encode them apart."""
    for item, row in zip(items(name), GOLDEN["random"]["benchmarks"][name], strict=True):
        (*contexts,) = encoder().encode([item.context(i) for i in range(len(item.choices))])
        asked = zip(contexts, encoder().encode(item.choices), strict=True)
        assert [token_hash(context, choice) for context, choice in asked] == row["tokens"]
        assert item.gold == row["gold"]


@pytest.mark.parametrize("kind", [own, transformers_own])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", CORE)
def test_log_likelihoods_of_the_nine(name: str, model: str, kind: Any) -> None:
    golden = GOLDEN[model]["benchmarks"][name]
    scores = ask(encoder(), items(name), Scorer(kind(model)))
    expected = np.array([value for row in golden for value in row["log_likelihood"]])
    assert np.abs(scores.log_likelihood - expected).max() < CLOSE
    if "unconditional" in golden[0]:
        alone = np.array([value for row in golden for value in row["unconditional"]])
        assert np.abs(scores.unconditional - alone).max() < CLOSE


@pytest.mark.parametrize("model", MODELS)
def test_greedy_choices_are_lm_evals(model: str) -> None:
    for name in CORE:
        texts = sorted({t for item in items(name) for t in (*item.contexts, *item.choices)})
        ids = dict(zip(texts, map(tuple, encoder().encode(texts)), strict=True))
        asked = [
            Request(context=ids[item.context(i)], continuation=ids[choice])
            for item in items(name)
            for i, choice in enumerate(item.choices)
        ]
        seen = [one.greedy for one in Scorer(own(model)).score(asked)]
        assert seen == [one for row in GOLDEN[model]["benchmarks"][name] for one in row["greedy"]]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["arc_challenge", "arc_easy", "openbookqa"])
def test_the_unconditional_normalisation_is_a_difference(name: str, model: str) -> None:
    """From lm-eval's numbers the difference gives our winners; the in-loop reference divides and has others."""
    golden = GOLDEN[model]["benchmarks"][name]
    by_difference = [
        int(np.argmax(np.subtract(row["log_likelihood"], row["unconditional"]))) == row["gold"] for row in golden
    ]
    found = evaluate(find(name), items(name), ask(encoder(), items(name), Scorer(own(model))))["acc_uncond"]
    assert found.values.tolist() == by_difference
    divided = [int(np.argmax(np.divide(row["log_likelihood"], row["unconditional"]))) == row["gold"] for row in golden]
    assert GOLDEN[model]["in_loop_pmi_dc"][name] == pytest.approx(np.mean(divided))
    assert divided != by_difference


@pytest.mark.parametrize("kind", [own, transformers_own])
@pytest.mark.parametrize("model", MODELS)
def test_rolling_log_likelihoods_and_what_lm_eval_prints(model: str, kind: Any) -> None:
    golden = GOLDEN[model]["perplexity"]
    licence = (HERE.parents[1] / "LICENSE").read_text(encoding="utf-8")
    passages = [passage_of(item) for item in load(find("boolq"), Selection(limit=12, seed=None)).items]
    texts = documents(licence, passages)
    ids = dict(zip(texts, encoder().encode(list(texts.values())), strict=True))
    assert {name: token_hash([], one) for name, one in ids.items()} == {
        name: one["tokens"] for name, one in golden["documents"].items()
    }
    assert max(map(len, ids.values())) > 5 * evaluation_models.CONTEXT
    given = [(Document(source="s", domain="d", id=name, text=text), ids[name]) for name, text in texts.items()]
    table = score_documents(Scorer(kind(model)), given, encoder().end_of_text)
    totals = dict(zip(texts, table.column("log_likelihood").to_pylist(), strict=True))
    for name, one in golden["documents"].items():
        # lm-eval adds up in float32: a window's sum of some thousands has steps of 2e-4 and more.
        assert totals[name] == pytest.approx(one["log_likelihood"], rel=5e-7, abs=CLOSE), name
    (found,) = domains(table)
    words = sum(len(re.split(r"\s+", text)) for text in texts.values())
    assert f"{found.bits_per_byte.value:.4f}" == golden["printed"]["bits_per_byte"]
    assert f"{2**found.bits_per_byte.value:.4f}" == golden["printed"]["byte_perplexity"]
    by_word = math.exp(-sum(totals.values()) / words)
    assert by_word == pytest.approx(float(golden["printed"]["word_perplexity"]), rel=1e-5)


def passage_of(item: Item) -> str:
    return item.contexts[0].rsplit("\nQuestion: ", 1)[0]
