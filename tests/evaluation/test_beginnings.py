"""How texts begin for Hugging Face models, against lm-eval 0.4.13: with a beginning-of-text token, without, and with a space.

Golden file: tests/oracles/evaluation_beginnings_golden.py, made by lm-eval in its own environment on the same folders.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.evaluation.ask import ask
from olmo_core.evaluation.benchmarks.definitions import find
from olmo_core.evaluation.encoder import Encoder, rules_of
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.generated import answer
from olmo_core.evaluation.items import GenerationRule, Item, Items, Selection
from olmo_core.evaluation.language_model import HuggingFaceModel
from olmo_core.evaluation.perplexity import Document, score_documents
from olmo_core.evaluation.recipe import DomainRecipe, EvaluationRecipe
from olmo_core.evaluation.requests import Request
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.run import load_scorer
from olmo_core.evaluation.targets import encoder_of, find_targets, subject_of
from tests.oracles import evaluation_beginnings as asked

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parent / "golden" / "lm_eval_beginnings.json").read_text()
)["kinds"]
CLOSE = 1e-4
ADDS = ("adds", "spaces", "switched on")
"""Kinds whose prompts begin with the token."""

Side = tuple[Encoder, Scorer]


@pytest.fixture(scope="module", params=asked.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def side(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Side:
    """Tokenizer and model of a folder, as evaluate-olmo has them."""
    work = tmp_path_factory.mktemp("beginnings")
    folder, store = asked.write(work / "model", kind), ArtifactStore(str(work / "store"))
    (target,) = find_targets(store, [str(folder)])
    encoder = encoder_of(store, target)
    recipe = EvaluationRecipe(name="texts", domains=(DomainRecipe(name="texts", folder=str(work)),))
    resources = ScoringResources(device="cpu", scores=str(work / "scores"))
    return encoder, load_scorer(store, target, subject_of(store, target, encoder), recipe, resources)


def items() -> list[Item]:
    return [Item(id=str(i), contexts=(context,), choices=(text,)) for i, (context, text) in enumerate(asked.PAIRS)]


def test_the_same_tokens_are_asked(kind: str, side: Side) -> None:
    encoder, _ = side
    for (context, target), row in zip(encoder.pairs(asked.PAIRS), GOLDEN[kind]["pairs"], strict=True):
        assert context[0] == row["first"]
        assert hashlib.sha256(json.dumps([context, target]).encode()).hexdigest()[:16] == row["tokens"]
    assert encoder.before == ((1,) if kind in ADDS else ())
    assert encoder.start == GOLDEN[kind]["prefix"] == (2 if kind == "none" else 1)


def test_log_likelihoods_with_and_without_context(kind: str, side: Side) -> None:
    encoder, scorer = side
    golden = GOLDEN[kind]["pairs"]
    expected = np.array([row["log_likelihood"] for row in golden])
    assert np.abs(ask(encoder, items(), scorer).log_likelihood - expected).max() < CLOSE
    requests = [Request(context=context, continuation=target) for context, target in encoder.pairs(asked.PAIRS)]
    seen = scorer.score(requests)
    assert [one.greedy for one in seen] == [row["greedy"] for row in golden]
    assert [one.status for one in seen] == ["ok"] * (len(seen) - 2) + ["truncated"] * 2


def test_rolling_log_likelihoods(kind: str, side: Side) -> None:
    """Of documents of up to 35 windows. Where the tokenizer adds the token, lm-eval's own numbers have it twice in front, and count it as a
    target: the second time it is asked here too, to know that nothing else differs.
    """
    encoder, scorer = side
    golden = GOLDEN[kind]
    texts = asked.DOCUMENTS
    ids = dict(zip(texts, encoder.encode(list(texts.values())), strict=True))
    assert [len(one) for one in ids.values()] == golden["document_tokens"]
    for name, before in (("rolling_bare", []), ("rolling", list(encoder.before))):
        given = [
            (Document(source="s", domain="d", id=key, text=text), [*before, *ids[key]]) for key, text in texts.items()
        ]
        found = score_documents(scorer, given, encoder.start).column("log_likelihood").to_pylist()
        # lm-eval adds up in float32: a sum of some hundreds of a window has steps of 3e-5, and some thousands are windows' sums.
        assert found == pytest.approx(golden[name], rel=5e-7, abs=CLOSE), name
    differs = [a != pytest.approx(b) for a, b in zip(golden["rolling"], golden["rolling_bare"], strict=True)]
    assert differs == [kind in ADDS] * len(texts)


def test_greedy_answers(kind: str, side: Side) -> None:
    encoder, scorer = side
    rule = GenerationRule(stop=asked.STOP, max_tokens=asked.MOST, answer="last_number")
    benchmark = replace(find("gsm8k"), generation=rule)
    prompts = tuple(Item(id=str(i), contexts=(text,), answer="1") for i, text in enumerate(asked.PROMPTS))
    given = Items(
        benchmark=benchmark,
        selection=Selection(shots=0),
        items=prompts,
        population=len(prompts),
        files={},
        handmade=True,
    )
    _, _, table = answer(encoder, given, scorer, lambda done, total: None)
    assert table.column("text").to_pylist() == GOLDEN[kind]["generated"]


def test_transformers_own_computation_of_the_same_folder(tmp_path: Path) -> None:
    import transformers

    folder = asked.write(tmp_path / "model", "spaces")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    encoder = Encoder(folder / "tokenizer.json", 2, rules_of(folder))
    found = ask(encoder, items(), Scorer(HuggingFaceModel(model, "w"))).log_likelihood
    expected = [row["log_likelihood"] for row in GOLDEN["spaces"]["pairs"]]
    assert np.abs(found - np.array(expected)).max() < CLOSE


def test_a_model_of_ours_is_asked_as_it_was_trained(tmp_path: Path) -> None:
    """Without rules of a folder: nothing before a prompt, whatever the file's template has; apart; after what ends a text."""
    path = asked.write(tmp_path / "model", "spaces") / "tokenizer.json"
    ours, theirs = Encoder(path), Encoder(path, rules=rules_of(path.parent))
    ((context, target),) = ours.pairs([("Answer:", " the Work")])
    assert context == tuple(ours.encode(["Answer:"])[0]) and target == tuple(ours.encode([" the Work"])[0])
    assert theirs.pairs([("Answer:", " the Work")]) == [((1, *context), target[1:])], (
        "no second space before the answer"
    )
    assert ours.start == ours.end_of_text == 2
    assert theirs.decode([1, *context, 2], special=False) == "Answer:" != theirs.decode([1, *context, 2])


def test_scores_of_one_setting_are_not_taken_for_anothers(tmp_path: Path) -> None:
    """The same weights and the same tokenizer.json; only `add_bos_token` differs."""
    store = ArtifactStore(str(tmp_path / "store"))
    targets = [
        find_targets(store, [str(asked.write(tmp_path / kind / "model", kind))])[0]
        for kind in ("spaces", "switched off")
    ]
    a, b = (subject_of(store, one, encoder_of(store, one)) for one in targets)
    assert a.tokenizer == b.tokenizer and a.weights != b.weights
