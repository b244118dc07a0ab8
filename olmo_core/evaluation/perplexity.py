"""Fit to text by domain, as Paloma measures it (arXiv 2312.10523): each document alone, totals kept by document.

Bits per byte of a domain are minus the log-likelihoods of its documents, summed, over the bytes of their text times
ln 2: comparable between tokenizers. A source is the mean of its domains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from olmo_core.errors import RecipeError
from olmo_core.evaluation.engine import Progress, Scorer
from olmo_core.evaluation.requests import Request
from olmo_core.evaluation.scores import SCORED
from olmo_core.evaluation.statistics import Interval, ratio_interval

Windows = Literal["paloma", "disjoint", "sliding"]
"""How a document longer than the model's context is cut. `paloma`: windows of as many targets as the context holds; the
last, short one is moved left, so that its targets see a full context. `disjoint`: it is not moved. `sliding`: every window
but the first has half a context of targets and half a context before them."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One text of a domain."""

    source: str
    domain: str
    id: str
    text: str


def windows(tokens: Sequence[int], before: int, context: int, rule: Windows = "paloma") -> list[Request]:
    """Return requests that score every token of a document once; `before` (`Encoder.start`) stands before its first token.

    `paloma` is lm-eval's `get_rolling_token_windows` with a context of one, then `make_disjoint_window`.
    """
    if context < 2:
        raise RecipeError(f"context: {context}; perplexity needs at least 2 tokens")
    found: list[Request] = []
    done = 0
    whole = (before, *tokens)
    """whole[i] comes just before tokens[i]."""
    while done < len(tokens):
        most = context if rule != "sliding" or not done else context // 2
        end = min(done + most, len(tokens))
        left = done if rule == "disjoint" else max(0, end - context)
        found.append(Request(context=whole[left : done + 1], continuation=whole[done + 1 : end + 1]))
        done = end
    return found


def score_documents(
    scorer: Scorer,
    documents: Sequence[tuple[Document, Sequence[int]]],
    before: int,
    rule: Windows = "paloma",
    progress: Progress | None = None,
) -> pa.Table:
    """Return one row for each document: its names, log-likelihood (nats), tokens, characters, bytes, windows, failures.

    A document with a window that could not be scored has a null log-likelihood and counts as a failure. An empty document has no tokens
    and adds nothing.
    """
    cut = [windows(tokens, before, scorer.model.context, rule) for _, tokens in documents]
    scores = scorer.score([request for one in cut for request in one], progress)
    bounds = np.concatenate([[0], np.cumsum([len(one) for one in cut])]).astype(int).tolist()
    parts = [scores[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
    good = [all(one.status in SCORED for one in part) for part in parts]
    totals = [sum(one.log_likelihood for one in part) if ok else None for part, ok in zip(parts, good, strict=True)]
    texts = [document.text for document, _ in documents]
    return pa.table(
        {
            "source": pa.array([d.source for d, _ in documents], pa.string()),
            "domain": pa.array([d.domain for d, _ in documents], pa.string()),
            "id": pa.array([d.id for d, _ in documents], pa.string()),
            "log_likelihood": pa.array(totals, pa.float64()),
            "tokens": pa.array([len(tokens) for _, tokens in documents], pa.int64()),
            "characters": pa.array([len(text) for text in texts], pa.int64()),
            "bytes": pa.array([len(text.encode("utf-8", "surrogatepass")) for text in texts], pa.int64()),
            "windows": pa.array([len(part) for part in parts], pa.int64()),
        }
    )


@dataclass(frozen=True, kw_only=True)
class DomainFit:
    """How well a model fits one domain."""

    source: str
    domain: str
    bits_per_byte: Interval
    """With the bootstrap over documents."""
    perplexity: float
    """Of a token; comparable with the same tokenizer only."""
    documents: int
    """That were scored."""
    failed: int
    """Documents that could not be."""
    tokens: int
    bytes: int


def domains(table: pa.Table, *, seed: int = 0) -> Iterator[DomainFit]:
    """Yield the fit to each domain of a table of `score_documents`, in order of source and domain."""
    rows = table.to_pydict()
    names = sorted(set(zip(rows["source"], rows["domain"], strict=True)))
    values = np.array([np.nan if v is None else v for v in rows["log_likelihood"]], np.float64)
    sizes, tokens = np.array(rows["bytes"], np.float64), np.array(rows["tokens"], np.int64)
    for source, domain in names:
        of = np.array([pair == (source, domain) for pair in zip(rows["source"], rows["domain"], strict=True)], bool)
        good = of & np.isfinite(values)
        count = int(tokens[good].sum())
        yield DomainFit(
            source=source,
            domain=domain,
            bits_per_byte=ratio_interval(-values[good] / np.log(2), sizes[good], seed=seed),
            perplexity=float(np.exp(-values[good].sum() / count)) if count else float("nan"),
            documents=int(good.sum()),
            failed=int((of & ~good).sum()),
            tokens=count,
            bytes=int(sizes[good].sum()),
        )
