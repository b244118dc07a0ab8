"""Scoring: equal to one forward pass for each request, whatever the batches, the order, the sharing, or what was cached."""

from __future__ import annotations

import contextlib
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.errors import InputError
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.language_model import HuggingFaceModel, OwnModel
from olmo_core.evaluation.prefix_tree import batches, plan
from olmo_core.evaluation.requests import Fitted, Request, fit
from olmo_core.evaluation.score_cache import ScoreCache
from tests.evaluation.models import one_by_one, tiny

CLOSE = 1e-4


def questions(seed: int = 0, count: int = 12, shots: int = 0) -> list[Request]:
    """Multiple choice: choices of one and of several tokens, some questions twice, after the same examples if any."""
    rng = random.Random(seed)
    prefix = tuple(rng.randrange(90) for _ in range(shots))
    found = []
    for _ in range(count):
        context = prefix + tuple(rng.randrange(90) for _ in range(rng.randrange(1, 14)))
        for _ in range(4):
            found.append(
                Request(context=context, continuation=tuple(rng.randrange(90) for _ in range(rng.randrange(1, 6))))
            )
    return [*found, *found[:3]]


@pytest.mark.parametrize("batch_tokens", [1, 50, 4096])
@pytest.mark.parametrize("shots", [0, 40])
@pytest.mark.parametrize("share", [True, False])
def test_as_one_pass_for_each(batch_tokens: int, shots: int, share: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("olmo_core.evaluation.prefix_tree.SAVED", 100)
    model, requests = tiny(), questions(shots=shots)
    scorer = Scorer(OwnModel(model, "w"), batch_tokens=batch_tokens, share=share)
    seen = scorer.score(requests)
    assert [s.log_likelihood for s in seen] == pytest.approx(one_by_one(model, requests), abs=CLOSE)
    assert {s.status for s in seen} == {"ok"}
    assert scorer.work.requests == len(set(requests))
    if share:
        assert scorer.work.tokens < scorer.work.tokens_unshared / (4 if shots else 1.5)


def test_order_and_neighbours_do_not_matter() -> None:
    model, requests = OwnModel(tiny(), "w"), questions(3, 20)
    expected = {r: s.log_likelihood for r, s in zip(requests, Scorer(model).score(requests), strict=True)}
    for seed in range(3):
        shuffled = requests[:]
        random.Random(seed).shuffle(shuffled)
        seen = Scorer(model, batch_tokens=64).score(shuffled[:30])
        assert [s.log_likelihood for s in seen] == pytest.approx([expected[r] for r in shuffled[:30]], abs=CLOSE)


def test_greedy_is_the_models_own_choice() -> None:
    model = tiny()
    context = (5, 6, 7)
    ids = list(context)
    with torch.no_grad():
        for _ in range(4):
            ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    right, wrong = tuple(ids[3:]), (*ids[3:6], (ids[6] + 1) % 90)
    seen = Scorer(OwnModel(model, "w")).score(
        [Request(context=context, continuation=right), Request(context=context, continuation=wrong)]
    )
    assert [s.greedy for s in seen] == [True, False]


def test_what_cannot_be_scored_has_a_status() -> None:
    model = tiny()
    requests = [
        Request(context=(1,), continuation=()),
        Request(context=(), continuation=(1,)),
        Request(context=(1,), continuation=(2,) * 65),
        Request(context=(1,) * 80, continuation=(2, 3)),
        Request(context=(1,), continuation=(2,) * 64),
    ]
    seen = Scorer(OwnModel(model, "w")).score(requests)
    assert [s.status for s in seen] == ["empty", "empty", "too_long", "truncated", "ok"]
    assert seen[3].dropped == 80 + 1 - 64
    assert [math.isnan(s.log_likelihood) for s in seen] == [True, True, True, False, False]
    assert seen[3].log_likelihood == pytest.approx(one_by_one(model, requests[3:4])[0], abs=CLOSE)
    with pytest.raises(InputError, match="do not fit each other"):
        Scorer(OwnModel(model, "w")).score([Request(context=(1,), continuation=(96,))])


def test_weights_that_are_not_finite_are_a_failure_and_not_a_score() -> None:
    model = tiny()
    with torch.no_grad():
        model.blocks[1].mlp.down.weight[3, 3] = float("nan")
    seen = Scorer(OwnModel(model, "w")).score([Request(context=(1,), continuation=(2,))])
    assert seen[0].status == "not_finite" and math.isnan(seen[0].log_likelihood)


def test_a_cache_answers_only_for_the_same_weights(tmp_path: Path) -> None:
    requests = questions(1)
    first = Scorer(OwnModel(tiny(1), "one"), cache=_cache(tmp_path, "one")).score(requests)
    again = Scorer(OwnModel(tiny(1), "one"), cache=_cache(tmp_path, "one"))
    assert again.score(requests) == first and again.work.requests == 0
    other = Scorer(OwnModel(tiny(2), "two"), cache=_cache(tmp_path, "two"))
    assert other.score(requests)[0].log_likelihood != first[0].log_likelihood
    assert other.work.requests == len(set(requests))


def test_a_cut_cache_goes_on_after_the_last_whole_record(tmp_path: Path) -> None:
    requests = questions(1)
    first = Scorer(OwnModel(tiny(1), "one"), cache=_cache(tmp_path, "one")).score(requests)
    (path,) = tmp_path.rglob("*.scores")
    raw = bytearray(path.read_bytes())
    raw[-41] ^= 1  # the last record but one is damaged
    path.write_bytes(raw[:-7])  # the last is cut
    again = Scorer(OwnModel(tiny(1), "one"), cache=_cache(tmp_path, "one"))
    assert [s.log_likelihood for s in again.score(requests)] == pytest.approx(
        [s.log_likelihood for s in first], abs=CLOSE
    )
    assert again.work.requests == 2


@pytest.mark.parametrize("shots", [0, 40])
def test_scoring_that_was_cut_off_goes_on_to_the_same_bits(
    tmp_path: Path, shots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off after each batch: the rest is done in the batches of a scoring that was not, and nothing twice."""
    monkeypatch.setattr("olmo_core.evaluation.prefix_tree.SAVED", 100)
    requests, model = questions(1, 40, shots), OwnModel(tiny(1), "one")
    whole, before, starts = Scorer(model, batch_tokens=100).score(requests), 0, 0

    def cut(done: int, total: int) -> None:
        if before < done < total:
            raise InterruptedError

    while True:
        scorer = Scorer(model, cache=_cache(tmp_path, "one"), batch_tokens=100)
        assert scorer.cache is not None
        before, starts = len(scorer.cache), starts + 1
        with contextlib.suppress(InterruptedError):
            seen = scorer.score(requests, cut)
            break
        scorer.close()
        assert len(_cache(tmp_path, "one")) > before
    assert starts > 5 and seen == whole
    assert scorer.work.requests == len(set(requests)) - before


def _cache(folder: Path, weights: str) -> ScoreCache:
    return ScoreCache(folder, weights=weights, tokenizer="t", dtype="float32")


FAMILIES = {
    "Llama": ({}, True),
    "Granite": ({"logits_scaling": 4.0}, True),
    "Mistral": ({"sliding_window": 8}, False),
    "Mpt": ({"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64}, False),
}
"""Of transformers: fields of their own, and whether they can share beginnings. Granite divides its logits; Mistral's window is lost under
a mask; MPT knows no places."""


@pytest.mark.parametrize("shots", [0, 40])
@pytest.mark.parametrize("family", FAMILIES)
def test_hugging_face_models_score_the_same_way(family: str, shots: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of other families, against their own plain forward pass."""
    monkeypatch.setattr("olmo_core.evaluation.prefix_tree.SAVED", 100)
    import transformers

    torch.manual_seed(0)
    own, shares = FAMILIES[family]
    shape = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 64,
    }  # fmt: skip
    config = getattr(transformers, f"{family}Config")(
        vocab_size=96, initializer_range=0.3, **({} if family == "Mpt" else shape), **own
    )
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    requests = questions(5, shots=shots)
    scorer = Scorer(HuggingFaceModel(model, "w"), batch_tokens=128)
    seen = scorer.score(requests)
    assert (scorer.work.tokens < scorer.work.tokens_unshared) is shares
    for request, one in zip(requests, seen, strict=True):
        ids = torch.tensor([[*request.context, *request.continuation]])
        with torch.no_grad():
            logits = torch.log_softmax(model(ids[:, :-1]).logits.double(), -1)[0]
        picked = logits.gather(1, ids[0, 1:, None])[:, 0]
        assert one.log_likelihood == pytest.approx(float(picked[-one.tokens :].sum()), abs=CLOSE)


sequences = st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=9), min_size=1, max_size=30)


@settings(deadline=None)
@given(sequences, st.integers(1, 4), st.booleans())
def test_a_plan_gives_every_target_its_own_past(lists: list[list[int]], targets: int, share: bool) -> None:
    """Walking up from the place where a target is scored gives the request's tokens, and nothing else is attended to."""
    fitted = []
    for ids in lists:
        n = min(targets, len(ids) - 1)
        fitted.append(Fitted(inputs=tuple(ids[:-1]), targets=tuple(ids[len(ids) - n :]), dropped=0))
    seen: dict[int, list[int]] = {}
    for group in plan(fitted, share=share):
        for row in group.rows:
            allowed = row.allowed()
            for request, index, target in row.scored:
                seen.setdefault(request, []).append(target)
                past = np.flatnonzero(allowed[index])
                tokens = [*group.prefix, *(row.tokens[i] for i in past)]
                place = len(fitted[request].inputs) - len(fitted[request].targets) + len(seen[request])
                assert tuple(tokens) == fitted[request].inputs[:place]
                assert [row.positions[i] for i in past] == list(range(len(group.prefix), place))
    assert {i: tuple(t) for i, t in seen.items()} == {i: one.targets for i, one in enumerate(fitted)}


def test_batches_keep_to_their_tokens() -> None:
    rows = [r for g in plan([_fitted(n) for n in (3, 50, 7, 6, 8, 30)]) for r in g.rows]
    made = batches(rows, 32)
    assert [[len(r) for r in batch] for batch in made] == [[50], [30], [8, 7, 6, 3]]


def _fitted(n: int) -> Fitted:
    made = fit(Request(context=tuple(n * 100 + i for i in range(n)), continuation=(1,)), 1000, 10**6)
    assert isinstance(made, Fitted)
    return made
