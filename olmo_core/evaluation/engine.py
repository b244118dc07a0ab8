"""Scores requests: shared beginnings once, rows of about one length together, output layer only where a score is needed.

Results do not depend on the size or the order of batches but for rounding: differences stay below 1e-4 nats in float32
(`tests/evaluation/test_engine.py`). Log-probabilities are float32 whatever the model's type, their sums float64.

Shapes: B rows, T tokens of a row, S = P + T with the P tokens of a shared beginning, N scored positions, V vocabulary rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from olmo_core.evaluation.language_model import LanguageModel
from olmo_core.evaluation.prefix_tree import Group, Row, batches, plan
from olmo_core.evaluation.requests import Fitted, Request, Scored, fit
from olmo_core.evaluation.score_cache import ScoreCache

_LOGITS = 1 << 26
"""Logits in memory at a time: 256 MiB of float32."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one `score` took."""

    requests: int
    """Different ones that were not in the cache."""
    tokens: int
    """That the model saw, filling not counted."""
    tokens_unshared: int
    """That it would have seen with a row for each request."""


class Scorer:
    """Scores requests with one model."""

    def __init__(
        self,
        model: LanguageModel,
        *,
        batch_tokens: int = 4096,
        cache: ScoreCache | None = None,
        rank: int = 0,
        world: int = 1,
        share: bool = True,
    ) -> None:
        """`batch_tokens`: tokens in a batch, filling included. With `world` processes each takes its part of the batches, and all
        get all results: for that torch.distributed must be set up, and the model whole in each. `share`: see `plan`.
        """
        self.model, self.cache = model, cache
        self._batch_tokens, self._rank, self._world, self._share = batch_tokens, rank, world, share
        self.work = Work(requests=0, tokens=0, tokens_unshared=0)

    def score(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Scored]:
        """Return what the model says of each request, in their order. Raises InputError for ids the model does not have."""
        keys = [request.key() for request in requests]
        known: dict[bytes, Scored] = {}
        todo: dict[bytes, Fitted] = {}
        for key, request in zip(keys, requests, strict=True):
            if key in known or key in todo:
                continue
            if self.cache is not None and (found := self.cache.get(key)) is not None:
                known[key] = found
                continue
            fitted = fit(request, self.model.context, self.model.vocabulary)
            if isinstance(fitted, Scored):
                known[key] = fitted
            else:
                todo[key] = fitted
        waiting = list(todo)
        total = len(set(keys))
        for answered in self._answers(list(todo.values())):
            fresh = [(waiting[i], one) for i, one in answered]
            known.update(fresh)
            if self.cache is not None:
                self.cache.put(fresh)
            if progress is not None:
                progress(len(known), total)
        if self._world > 1:
            known = self._gathered(known)
        return [known[key] for key in keys]

    def _gathered(self, known: dict[bytes, Scored]) -> dict[bytes, Scored]:
        parts: list[dict[bytes, Scored]] = [{} for _ in range(self._world)]
        torch.distributed.all_gather_object(parts, known)
        return {key: one for part in parts for key, one in part.items()}

    def _answers(self, requests: Sequence[Fitted]) -> Iterator[list[tuple[int, Scored]]]:
        """Yield (number of the request, its score), as soon as a request's last target is known."""
        groups = plan(requests, share=self._share)
        self.work = Work(
            requests=len(requests),
            tokens=sum(group.tokens for group in groups),
            tokens_unshared=sum(len(one.inputs) for one in requests),
        )
        number = 0
        for group in groups:
            prefix = None
            for batch in batches(group.rows, self._batch_tokens):
                number += 1
                if (number - 1) % self._world != self._rank:
                    continue
                if group.prefix and prefix is None:
                    prefix = self.model.begin(group.prefix)
                yield self._run(batch, group, prefix, requests)

    def _run(
        self, batch: Sequence[Row], group: Group, prefix: object, requests: Sequence[Fitted]
    ) -> list[tuple[int, Scored]]:
        try:
            values, firsts = self._forward(batch, group, prefix)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            half = len(batch) // 2
            return [one for part in (batch[:half], batch[half:]) for one in self._run(part, group, prefix, requests)]
        sums: dict[int, list[float]] = {}
        greedy: dict[int, bool] = {}
        pairs = [scored for row in batch for scored in row.scored]
        for (request, _, _), value, first in zip(pairs, values, firsts, strict=True):
            sums.setdefault(request, []).append(value)
            greedy[request] = greedy.get(request, True) and first
        return [(i, _scored(requests[i], math.fsum(parts), greedy[i])) for i, parts in sums.items()]

    def _forward(self, batch: Sequence[Row], group: Group, prefix: object) -> tuple[list[float], list[bool]]:
        """Return, for each target of each row, its log-probability, and whether it was the model's first choice."""
        width, device = max(len(row) for row in batch), self.model.device
        tokens_BT = torch.zeros((len(batch), width), dtype=torch.long)
        positions_BT = torch.zeros((len(batch), width), dtype=torch.long)
        for b, row in enumerate(batch):
            tokens_BT[b, : len(row)] = torch.tensor(row.tokens)
            positions_BT[b, : len(row)] = torch.tensor(row.positions)
        at = [b * width + index for b, row in enumerate(batch) for _, index, _ in row.scored]
        places, which = (torch.from_numpy(one) for one in np.unique(np.array(at), return_inverse=True))
        targets = torch.tensor([target for row in batch for _, _, target in row.scored])
        mask = _mask(batch, width, len(group.prefix))
        values, firsts = self.model.run(
            tokens_BT.to(device),
            positions_BT.to(device),
            None if mask is None else mask.to(device),
            prefix,
            lambda x_BTW, weight_VW: _log_probabilities(
                x_BTW.flatten(0, 1)[places.to(device)], weight_VW, which.to(device), targets.to(device)
            ),
        )
        return values.tolist(), firsts.tolist()


def _mask(batch: Sequence[Row], width: int, prefix: int) -> Tensor | None:
    """Return what may be attended to, B x 1 x T x S; None where rows are plain sequences from the beginning: then the
    filling is behind every token that counts, and causal attention never sees it.
    """
    if not prefix and not any(row.branches for row in batch):
        return None
    mask_BTS = torch.zeros((len(batch), width, prefix + width), dtype=torch.bool)
    mask_BTS[:, :, :prefix] = True
    for b, row in enumerate(batch):
        mask_BTS[b, : len(row), prefix : prefix + len(row)] = torch.from_numpy(row.allowed())
        filling = torch.arange(len(row), width)
        mask_BTS[b, filling, prefix + filling] = True  # attention to nothing would be NaN
    return mask_BTS[:, None]


def _log_probabilities(x_NW: Tensor, weight_VW: Tensor, which_M: Tensor, targets_M: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-probability (M,) of each target after its position, and whether it is the most likely token."""
    weight_VW = weight_VW.float()
    size = max(1, _LOGITS // len(weight_VW))
    values = torch.empty(len(targets_M), dtype=torch.float64, device=x_NW.device)
    firsts = torch.empty(len(targets_M), dtype=torch.bool, device=x_NW.device)
    for start in range(0, len(x_NW), size):
        logits_NV = F.linear(x_NW[start : start + size].float(), weight_VW)
        mine = ((which_M >= start) & (which_M < start + size)).nonzero()[:, 0]
        rows, wanted = which_M[mine] - start, targets_M[mine]
        normal_N = logits_NV.logsumexp(-1)
        values[mine] = (logits_NV[rows, wanted] - normal_N[rows]).double()
        firsts[mine] = logits_NV.argmax(-1)[rows] == wanted
    return values, firsts


def _scored(request: Fitted, value: float, greedy: bool) -> Scored:
    status = "not_finite" if not math.isfinite(value) else "truncated" if request.dropped else "ok"
    return Scored(
        log_likelihood=value if math.isfinite(value) else float("nan"),
        tokens=len(request.targets),
        greedy=greedy,
        status=status,  # type: ignore[arg-type]
        dropped=request.dropped,
    )
