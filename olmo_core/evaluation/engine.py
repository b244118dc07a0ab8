"""Scores requests: shared beginnings once, rows of about one length together, output layer only where a score is needed.

Results do not depend on the size or the order of batches but for rounding: differences stay below 1e-4 nats in float32
(`tests/evaluation/test_engine.py`). Log-probabilities are float32 whatever the model's type, their sums float64.

Shapes: B rows, T tokens of a row, N scored positions, M targets, W width, V vocabulary rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from olmo_core.errors import WorkerError
from olmo_core.evaluation.dealing import deal
from olmo_core.evaluation.language_model import LanguageModel
from olmo_core.evaluation.layout import packed, padded
from olmo_core.evaluation.prefix_tree import Group, Row, plan, without
from olmo_core.evaluation.requests import Fitted, Request, Scored, fit
from olmo_core.evaluation.score_cache import ScoreCache
from olmo_core.evaluation.team import Flat, Team, flat, unflat

_LOGITS = {True: 1 << 20, False: 1 << 26}
"""Logits in memory at a time, on a processor (4 MiB of float32, which stay in its cache) and on a GPU (256 MiB)."""
_LEAST_PART = 1024
"""Vocabulary rows that are multiplied at a time at least."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one `score` took, or one round of generated answers (tokens of the prompts)."""

    requests: int
    """Different ones that were not in the cache."""
    tokens: int
    """That the model saw, filling not counted; of a batch that the cache knew in part, all."""
    tokens_unshared: int
    """That it would have seen with a row for each request."""


class Scorer:
    """Scores requests with one model."""

    def __init__(
        self,
        model: LanguageModel,
        *,
        batch_tokens: int = 2048,
        cache: ScoreCache | None = None,
        team: Team | None = None,
        share: bool = True,
    ) -> None:
        """`batch_tokens`: tokens in a batch, filling included. `share`: see `plan`.

        With a `team` each of its processes does its part, and all get all results: each must make the same calls, or `serve` the
        leader's. What the leader asks counts, and what its cache has.
        """
        self.model, self.cache, self.team = model, cache, team
        self._batch_tokens, self._share = batch_tokens, share and model.shares
        self.work = Work(requests=0, tokens=0, tokens_unshared=0)

    def close(self) -> None:
        """Close the cache's file."""
        if self.cache is not None:
            self.cache.close()

    def score(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Scored]:
        """Return what the model says of each request, in their order. Raises InputError for ids the model does not have."""
        keys = [request.key() for request in requests]
        if self.team is not None and not self.team.leads:
            known = self._follow(self.team)
            return [known[key] for key in keys]
        known = {}
        asked: dict[bytes, Fitted] = {}
        for key, request in zip(keys, requests, strict=True):
            if key in known or key in asked:
                continue
            fitted = fit(request, self.model.context, self.model.vocabulary)
            if isinstance(fitted, Scored):
                known[key] = fitted
                continue
            asked[key] = fitted
            if self.cache is not None and (found := self.cache.get(key)) is not None:
                known[key] = found
        if self.team is not None:
            self.team.tell("score", (known, list(asked), flat(list(asked.values()))))
        there, total = len(known), len(known.keys() | asked.keys())

        def tell(done: int) -> None:
            if progress is not None:
                progress(there + done, total)

        known |= self._computed(list(asked), list(asked.values()), known, tell)
        tell(total - there)
        return [known[key] for key in keys]

    def _follow(self, team: Team) -> dict[bytes, Scored]:
        call = team.hear()
        if call.kind != "score":
            raise WorkerError(
                f"rank {team.rank} was to score, and rank 0 said {call.kind!r}: they make different calls"
            )
        return self.serve_scores(call.what)

    def serve_scores(
        self, told: tuple[dict[bytes, Scored], list[bytes], Flat], progress: Callable[[int], None] = lambda done: None
    ) -> dict[bytes, Scored]:
        """Do this rank's part of what the leader's `score` told, and return all results."""
        known, keys, requests = told
        return known | self._computed(keys, unflat(requests), known, progress)

    def _computed(
        self,
        keys: Sequence[bytes],
        requests: Sequence[Fitted],
        known: Mapping[bytes, Scored],
        progress: Callable[[int], None],
    ) -> dict[bytes, Scored]:
        """Return the scores that are not known, of this process and its team."""
        mine: dict[bytes, Scored] = {}
        problem = None

        def keep(answered: list[tuple[int, Scored]]) -> None:
            fresh = [(keys[i], one) for i, one in answered if keys[i] not in known]
            mine.update(fresh)
            if self.cache is not None:
                self.cache.put(fresh)
            progress(len(mine))

        try:
            groups = self._planned(requests, {i for i, key in enumerate(keys) if key in known})
            for answered in self._answers(groups, requests):
                if self.team is not None and self.model.sharded:
                    # All stop after the same batch, or one would wait here and the others in the model, for each other.
                    self.team.together(partial(keep, answered))
                else:
                    keep(answered)
        except Exception as error:
            if self.team is None or self.model.sharded:
                raise
            problem = error
        if self.team is None:
            return mine
        return {key: one for part in self.team.gather(mine, problem) for key, one in part.items()}

    def _planned(self, requests: Sequence[Fitted], known: Set[int]) -> list[Group]:
        """Return what is to be computed; the numbers of requests whose scores are `known` say which are not.

        Batches are planned as if nothing were known, and those that are known are left out: what a scoring that was cut off
        has yet to do is done in the batches of one that was not, and gives the same bits. Only where more would be computed again than is
        missing (the cache comes of other requests) the missing ones are planned alone, with the same numbers but for rounding.
        """
        missing = [i for i in range(len(requests)) if i not in known]
        groups = without(plan(requests, share=self._share), known, self._batch_tokens) if missing else []
        planned = sum(len({i for row in group.rows for i, _, _ in row.scored}) for group in groups)
        if planned > 2 * len(missing):
            groups = plan(requests, share=self._share, only=missing)
        self.work = Work(
            requests=len(missing),
            tokens=sum(group.tokens for group in groups),
            tokens_unshared=sum(len(requests[i].inputs) for i in missing),
        )
        return groups

    def _answers(self, groups: Sequence[Group], requests: Sequence[Fitted]) -> Iterator[list[tuple[int, Scored]]]:
        """Yield (number of the request, its score), as soon as a request's last target is known; of a sharded model after each
        batch, on all ranks alike.
        """
        rank, size = (self.team.rank, self.team.size) if self.team is not None else (0, 1)
        for part in deal(groups, self._batch_tokens, rank, size, lockstep=size > 1 and self.model.sharded):
            prefix = self.model.begin(part.group.prefix) if part.group.prefix else None
            for batch, wanted in zip(part.batches, part.wanted, strict=True):
                answered = self._run(batch, part.group, prefix, requests)
                if wanted or self.model.sharded:
                    yield answered if wanted else []

    def _run(
        self, batch: Sequence[Row], group: Group, prefix: object, requests: Sequence[Fitted]
    ) -> list[tuple[int, Scored]]:
        try:
            values, firsts = self._forward(batch, group, prefix)
        except torch.OutOfMemoryError:
            if len(batch) == 1 or self.model.sharded:  # the other ranks would not split theirs
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
        model, device = self.model, self.model.device
        layout = packed(batch, device, model.dtype) if model.packs else padded(batch, len(group.prefix), device)
        at = [start + index for start, row in zip(layout.starts, batch, strict=True) for _, index, _ in row.scored]
        places, which = (torch.from_numpy(one).to(device) for one in np.unique(np.array(at), return_inverse=True))
        targets = torch.tensor([target for row in batch for _, _, target in row.scored], device=device)
        values, firsts = model.run(
            layout,
            prefix,
            lambda x_BTW, weight_VW: _log_probabilities(x_BTW.flatten(0, 1)[places], weight_VW, which, targets),
        )
        return values.tolist(), firsts.tolist()


def _log_probabilities(
    x_NW: Tensor, weight_VW: Tensor | None, which_M: Tensor, targets_M: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the log-probability (M,) of each target after its position, and whether it is the most likely token.

    `weight_VW` None: `x_NW` are logits. The vocabulary is gone through in parts, in memory that is used again: for OLMo's
    on a processor this takes 0.6 of the time that all logits at once take (docs/benchmarks.md, Scoring).
    """
    x_NW = x_NW.float()
    rows, vocabulary = len(x_NW), x_NW.shape[1] if weight_VW is None else len(weight_VW)
    size = min(vocabulary, max(_LEAST_PART, _LOGITS[x_NW.device.type == "cpu"] // rows))
    buffer = x_NW.new_empty(rows * size)
    highest_N = x_NW.new_full((rows,), torch.finfo(torch.float32).min)
    sums_N = x_NW.new_zeros(rows)
    wanted_M = x_NW.new_full((len(targets_M),), torch.nan)
    for start in range(0, vocabulary, size):
        end = min(vocabulary, start + size)
        logits_NV = buffer[: rows * (end - start)].view(rows, end - start)
        if weight_VW is None:
            logits_NV.copy_(x_NW[:, start:end])
        else:
            torch.mm(x_NW, weight_VW[start:end].float().T, out=logits_NV)
        here = ((targets_M >= start) & (targets_M < end)).nonzero()[:, 0]
        wanted_M[here] = logits_NV[which_M[here], targets_M[here] - start]
        higher_N = torch.maximum(highest_N, logits_NV.amax(-1))
        added_N = logits_NV.sub_(higher_N[:, None]).exp_().sum(-1)
        sums_N = sums_N * (highest_N - higher_N).exp() + added_N
        highest_N = higher_N
    normal_N = highest_N.double() + sums_N.double().log()
    return wanted_M.double() - normal_N[which_M], wanted_M >= highest_N[which_M]


def _scored(request: Fitted, value: float, greedy: bool) -> Scored:
    status = "not_finite" if not math.isfinite(value) else "truncated" if request.dropped else "ok"
    return Scored(
        log_likelihood=value if math.isfinite(value) else float("nan"),
        tokens=len(request.targets),
        greedy=greedy,
        status=status,  # type: ignore[arg-type]
        dropped=request.dropped,
    )
