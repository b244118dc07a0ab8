"""Generation: greedy equal to transformers' token by token, draws from the same distribution as its, streams, batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from olmo_core.errors import InputError, RecipeError
from olmo_core.model.cache import Cache
from olmo_core.model.generation import complete, stream
from olmo_core.model.sampling import Sampling, choose, probabilities
from tests.model.peers import theirs
from tests.model.samples import ours, small, tokens

WHOLE = {"vocabulary": 512, "initialization": "normal"}
"""Every row of the output layer is a token, as transformers takes it; and the small weights give varied text."""


def greedy(peer: Any, prompt: list[int], new: int) -> list[int]:
    """What transformers generates."""
    ids = torch.tensor([prompt])
    out = peer.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False)
    return out[0, len(prompt) :].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("changed", [{"tied": False}, {"kv_heads": 2}, {"norm": "rms", "kv_heads": 1}], ids=str)
def test_greedy_is_transformers_token_by_token(changed: dict[str, Any]) -> None:
    model = ours(small(**WHOLE, **changed))
    peer = theirs(model)
    for seed in range(3):
        prompt = tokens(1, 3 + 5 * seed, seed)[0].tolist()
        found = complete(model, [prompt], Sampling(max_tokens=60))[0]
        assert found == greedy(peer, prompt, 60)
        assert len(set(found)) > 5  # not one token over and over


def test_it_stops_at_the_end_of_text() -> None:
    model = ours(small(**WHOLE, tied=False))
    prompt = tokens(1, 8)[0].tolist()
    free = complete(model, [prompt], Sampling(max_tokens=20))[0]
    stop = free[6]
    object.__setattr__(model.recipe, "end_of_text_id", stop)
    peer = theirs(model)
    found = complete(model, [prompt], Sampling(max_tokens=20))[0]
    assert found == free[: free.index(stop) + 1] == greedy(peer, prompt, 20)
    assert complete(model, [prompt], Sampling(max_tokens=20, stop_at_end=False))[0] == free


def test_prompts_of_different_lengths_are_as_if_alone() -> None:
    model = ours(small(**WHOLE, kv_heads=2, tied=False))
    prompts = [tokens(1, length, length)[0].tolist() for length in (3, 17, 9)]
    together = complete(model, prompts, Sampling(max_tokens=30))
    assert together == [complete(model, [prompt], Sampling(max_tokens=30))[0] for prompt in prompts]
    drawn = Sampling(max_tokens=12, temperature=1.0, seed=4)
    assert complete(model, prompts, drawn) == [complete(model, [prompt], drawn)[0] for prompt in prompts]


def test_a_row_that_has_ended_waits_for_the_others() -> None:
    model = ours(small(**WHOLE, tied=False))
    prompts = [tokens(1, length, length)[0].tolist() for length in (4, 8)]
    free = complete(model, prompts, Sampling(max_tokens=20, stop_at_end=False))
    stop = next(token for token in free[0] if token not in free[1])
    object.__setattr__(model.recipe, "end_of_text_id", stop)
    found = complete(model, prompts, Sampling(max_tokens=20))
    assert found == [free[0][: free[0].index(stop) + 1], free[1]]


def test_cached_logits_are_those_of_the_whole_text() -> None:
    model = ours(small(kv_heads=2))
    ids = tokens(2, 30)
    cache = Cache(model.recipe, batch=2, room=30, dtype=torch.float32, device="cpu")
    with torch.no_grad():
        parts = [model(ids[:, a:b], cache=cache) for a, b in ((0, 7), (7, 8), (8, 20), (20, 30))]
        assert torch.allclose(torch.cat(parts, 1), model(ids), atol=1e-5)
    with pytest.raises(InputError, match="room for 30 positions and holds 30: 1 more"):
        model(ids[:, :1], cache=cache)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(0.7, None, None), (1.0, 5, None), (1.3, None, 0.6), (0.9, 20, 0.8), (1, 1, 0.01)],
)
def test_distribution_is_transformers(temperature: float, top_k: int | None, top_p: float | None) -> None:
    logits = 3 * torch.randn(1, 50, generator=torch.Generator().manual_seed(1))
    expected = TemperatureLogitsWarper(float(temperature))(None, logits)
    if top_k is not None:
        expected = TopKLogitsWarper(top_k)(None, expected)
    if top_p is not None:
        expected = TopPLogitsWarper(top_p)(None, expected)
    found = probabilities(logits[0], Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert torch.allclose(found, expected[0].softmax(-1), atol=1e-7)


def test_draws_follow_the_distribution_and_the_seed() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -torch.inf])
    sampling = Sampling(temperature=1.0)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.bincount(torch.tensor([choose(logits, sampling, generator) for _ in range(4000)]), minlength=4)
    assert torch.allclose(drawn / 4000, logits.softmax(-1), atol=0.03)
    model = ours(small(**WHOLE))
    one, again, other = (
        complete(model, [[5, 6]], Sampling(max_tokens=20, temperature=1.0, seed=seed)) for seed in (1, 1, 2)
    )
    assert one == again != other


def test_it_streams() -> None:
    """Each token is there before the next one is computed."""
    model = ours(small(**WHOLE))
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    model.register_forward_hook(count)
    for number, (token,) in enumerate(stream(model, [[5, 6]], Sampling(max_tokens=5)), start=1):
        assert calls == number and token is not None
    assert calls == 5


def test_only_ids_of_the_vocabulary_come_out_and_the_context_ends_it() -> None:
    model = ours(small(vocabulary=20, end_of_text_id=19, context=64))
    (found,) = complete(model, [[1, 2, 3]], Sampling(max_tokens=500, temperature=5.0, stop_at_end=False))
    assert len(found) == 61 and max(found) < 20


@pytest.mark.parametrize(
    ("prompt", "message"), [([], "prompt 0 is empty"), ([3, 500], "has the id 500"), ([3] * 128, "leaves no room")]
)
def test_wrong_prompts(prompt: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        complete(ours(small()), [prompt], Sampling())


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"temperature": -1.0}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}], ids=str
)
def test_wrong_sampling(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        Sampling(**wrong)
