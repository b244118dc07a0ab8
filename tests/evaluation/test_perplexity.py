"""Perplexity by domain: which tokens see what, totals of documents, bits per byte with their interval."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.errors import RecipeError
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.language_model import OwnModel
from olmo_core.evaluation.perplexity import Document, Windows, domains, score_documents, windows
from tests.evaluation.models import tiny


def spans(rule: Windows, n: int, context: int) -> list[tuple[list[int], list[int]]]:
    """(tokens before the targets, targets) of each window of the document 0, 1, 2, ..., with -1 before it."""
    return [(list(w.context), list(w.continuation)) for w in windows(range(n), -1, context, rule)]


def test_palomas_rule_by_its_published_example() -> None:
    """Ten tokens and a context of four: the last window is moved left (reference/evaluation.md, section 2)."""
    assert spans("paloma", 10, 4) == [([-1], [0, 1, 2, 3]), ([3], [4, 5, 6, 7]), ([5, 6, 7], [8, 9])]
    assert spans("disjoint", 10, 4)[2] == ([7], [8, 9])
    assert spans("sliding", 9, 4) == [
        ([-1], [0, 1, 2, 3]),
        ([1, 2, 3], [4, 5]),
        ([3, 4, 5], [6, 7]),
        ([4, 5, 6, 7], [8]),
    ]
    assert spans("paloma", 3, 4) == [([-1], [0, 1, 2])] and spans("paloma", 0, 4) == []
    with pytest.raises(RecipeError, match="at least 2"):
        windows([1, 2], 0, 1)


@given(st.integers(0, 60), st.integers(2, 12), st.sampled_from(["paloma", "disjoint", "sliding"]))
def test_every_token_is_a_target_once_and_fits(n: int, context: int, rule: Windows) -> None:
    cut = windows(range(n), -1, context, rule)
    assert [t for one in cut for t in one.continuation] == list(range(n))
    for one in cut:
        assert len(one.context) + len(one.continuation) - 1 <= context
        assert list(one.context) == list(range(one.continuation[0] - len(one.context), one.continuation[0]))


def test_totals_of_documents_and_bits_of_domains() -> None:
    """Against a loop over positions: each target after exactly what its window shows of the document."""
    model = tiny()
    rng = np.random.default_rng(0)
    texts = ["é" * 10, "plain text", "", "x" * 300]
    tokens = [rng.integers(1, 90, n).tolist() for n in (20, 9, 0, 150)]
    documents = [Document(source="s", domain="ab"[i % 2], id=str(i), text=t) for i, t in enumerate(texts)]
    table = score_documents(Scorer(OwnModel(model, "w")), list(zip(documents, tokens, strict=True)), before=0)
    for ids, total in zip(tokens, table.column("log_likelihood").to_pylist(), strict=True):
        assert total == pytest.approx(_slow(model, ids), abs=1e-3)
    assert table.column("bytes").to_pylist() == [20, 10, 0, 300]
    assert table.column("characters").to_pylist() == [10, 10, 0, 300]
    assert table.column("windows").to_pylist() == [1, 1, 0, 3]
    a, b = domains(table)
    assert (a.domain, a.documents, a.tokens, a.bytes, a.failed) == ("a", 2, 20, 20, 0)
    assert a.bits_per_byte.value == pytest.approx(-_slow(model, tokens[0]) / 20 / math.log(2), rel=1e-5)
    assert b.bits_per_byte.low <= b.bits_per_byte.value <= b.bits_per_byte.high
    assert b.perplexity == pytest.approx(math.exp(-(_slow(model, tokens[1]) + _slow(model, tokens[3])) / 159), rel=1e-5)


@torch.no_grad()
def _slow(model: torch.nn.Module, ids: list[int], context: int = 64) -> float:
    total, whole = 0.0, [0, *ids]
    for i in range(len(ids)):
        end = min((i // context + 1) * context, len(ids))
        left = max(0, end - context)
        logits = model(torch.tensor([whole[left : i + 1]]))[0, -1].double()
        total += float(torch.log_softmax(logits, -1)[ids[i]])
    return total


def test_a_document_that_cannot_be_scored_is_counted() -> None:
    table = pa.table(
        {
            "source": ["s", "s"], "domain": ["a", "a"], "id": ["0", "1"], "log_likelihood": [None, -10.0],
            "tokens": [5, 4], "characters": [9, 9], "bytes": [9, 10], "windows": [1, 1],
        }
    )  # fmt: skip
    (seen,) = domains(table)
    assert (seen.failed, seen.documents, seen.tokens) == (1, 1, 4)
    assert seen.bits_per_byte.value == pytest.approx(1 / math.log(2))
