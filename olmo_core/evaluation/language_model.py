"""What the scoring engine needs of a model, and the two kinds that have it: ours, and any Hugging Face causal model.

Shapes: B rows, T tokens of a row, W width, V vocabulary rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from olmo_core.evaluation.layout import Layout, padded
from olmo_core.evaluation.prefix_tree import row_of
from olmo_core.evaluation.requests import Fitted
from olmo_core.model.cache import Cache
from olmo_core.model.transformer import Transformer

R = TypeVar("R")
Head = Callable[[Tensor, Tensor | None], R]
"""What is made of the last hidden states (B x T x W, normed) and the output layer's weight (V x W); of logits (B x T x V) and
None where a model's output layer is more than a product."""

Ended = Callable[[Sequence[int]], bool]
"""Whether generated tokens are a whole answer."""


class LanguageModel(Protocol):
    """A model that scores sequences; no gradients are kept."""

    identity: str
    """Digest of its weights."""
    context: int
    """Longest sequence in tokens."""
    vocabulary: int
    """Ids it knows."""

    @property
    def device(self) -> torch.device:
        """Where its inputs go."""

    @property
    def dtype(self) -> torch.dtype:
        """Type of its hidden states."""

    @property
    def packs(self) -> bool:
        """Whether it takes rows end to end, by the layout's own attention."""

    @property
    def shares(self) -> bool:
        """Whether it takes rows that are trees, and beginnings that were computed before."""

    @property
    def sharded(self) -> bool:
        """Whether each rank has a part of it, so that all must compute at the same time."""

    def begin(self, tokens: Sequence[int]) -> Any:
        """Return the keys and values of a shared beginning, for `run`."""

    def run(self, layout: Layout, prefix: Any, head: Head[R]) -> R:
        """Return what `head` makes of the hidden states."""

    def continue_greedily(self, prompts: Sequence[Sequence[int]], most: int, ended: Ended) -> list[list[int]]:
        """Return the most likely continuation of each prompt, until `ended` or `most` tokens; together they must fit."""


class OwnModel:
    """A `Transformer`; sharded ones work too, when every rank makes the same calls.

    Without gradients, but not in torch's inference mode: parameters that FSDP gathers in it could not be trained afterwards.
    """

    def __init__(self, model: Transformer, identity: str, *, dtype: torch.dtype | None = None) -> None:
        """`dtype`: of hidden states where it is not that of the parameters (FSDP's mixed precision)."""
        self.model, self.identity, self._dtype = model.eval(), identity, dtype
        self.context, self.vocabulary = model.recipe.context, model.recipe.embedding_rows

    @property
    def device(self) -> torch.device:
        """Where its inputs go."""
        return self.model.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of its hidden states."""
        return self._dtype or self.model.embedding.weight.dtype

    @property
    def packs(self) -> bool:
        """On a processor."""
        return self.device.type == "cpu"

    @property
    def shares(self) -> bool:
        """Always."""
        return True

    @property
    def sharded(self) -> bool:
        """Whether it is under FSDP2."""
        return isinstance(self.model, FSDPModule)

    def _cache(self, batch: int, room: int) -> Cache:
        return Cache(self.model.recipe, batch=batch, room=room, dtype=self.dtype, device=self.device)

    @torch.no_grad()
    def begin(self, tokens: Sequence[int]) -> Cache:
        """Return the keys and values of a shared beginning."""
        cache = self._cache(1, len(tokens))
        self.model(torch.tensor([list(tokens)], device=self.device), cache=cache, last=True)
        return cache

    @torch.no_grad()
    def run(self, layout: Layout, prefix: Cache | None, head: Head[R]) -> R:
        """Return what `head` makes of the hidden states."""
        cache = prefix
        if prefix is not None and layout.attend is None:
            batch, time = layout.tokens_BT.shape
            cache = self._cache(batch, prefix.length + time)
            for own, given in zip(cache.layers, prefix.layers, strict=True):
                rows = (batch, -1, -1, -1)
                own.extend(
                    given.keys_BKSD[:, :, : given.length].expand(rows),
                    given.values_BKSD[:, :, : given.length].expand(rows),
                )
        made = self.model(
            layout.tokens_BT,
            positions=layout.positions_BT,
            mask=layout.mask,
            attend=layout.attend,
            cache=cache,
            head=head,
        )
        return cast(R, made)

    @torch.no_grad()
    def continue_greedily(self, prompts: Sequence[Sequence[int]], most: int, ended: Ended) -> list[list[int]]:
        """Return the most likely continuation of each prompt."""
        longest = max(len(prompt) for prompt in prompts)
        padding_B = torch.tensor([longest - len(prompt) for prompt in prompts], device=self.device)
        cache = Cache(
            self.model.recipe,
            batch=len(prompts),
            room=min(longest + most, self.context),
            dtype=self.dtype,
            device=self.device,
            padding_B=padding_B if bool(padding_B.any()) else None,
        )
        tokens = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
        next_BT = torch.tensor(tokens, device=self.device)
        found: list[list[int]] = [[] for _ in prompts]
        done = [False] * len(prompts)
        while not all(done) and len(max(found, key=len)) < most and cache.length + next_BT.shape[1] <= cache.room:
            next_BT = self.model(next_BT, cache=cache, last=True)[:, -1].argmax(-1, keepdim=True)
            for row, token in enumerate(next_BT[:, 0].tolist()):
                if not done[row]:
                    found[row].append(token)
                    done[row] = ended(found[row])
        return found


class HuggingFaceModel:
    """A causal language model of the transformers library.

    Some of them scale their logits (Granite), and some take no heed of the mask and the places that a tree needs (MPT, recurrent ones; a
    window over the last tokens is lost, too): a few tokens tell, and those are scored by their logits, a row for each request.
    """

    def __init__(self, model: Any, identity: str) -> None:
        self.model, self.identity = model.eval(), identity
        config = model.config
        self.context = int(getattr(config, "max_position_embeddings", 0) or getattr(config, "n_positions", 2048))
        self.vocabulary = int(config.vocab_size)
        output = model.get_output_embeddings()
        own_head = any(getattr(config, name, None) for name in ("final_logit_softcapping", "logit_scale"))
        self._plain_head = output is not None and getattr(output, "bias", None) is None and not own_head
        self._plain_head = self._plain_head and self._multiplies()
        self._shares = not _has_window(config, self.context) and self._follows_trees()

    @property
    def device(self) -> torch.device:
        """Where its inputs go."""
        return cast(torch.device, self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """Type of its hidden states."""
        return cast(torch.dtype, self.model.dtype)

    @property
    def packs(self) -> bool:
        """Never: its attention is its own."""
        return False

    @property
    def shares(self) -> bool:
        """Whether it was found to give the same with shared beginnings as without."""
        return self._shares

    @property
    def sharded(self) -> bool:
        """Never: each process has it whole."""
        return False

    def _probe(self) -> list[int]:
        """Return ten ids from all over the vocabulary."""
        return [(i * self.vocabulary) // 11 for i in range(1, 11)]

    @torch.inference_mode()
    def _multiplies(self) -> bool:
        """Whether logits are hidden states times the output layer's weight, and nothing else."""
        ids = torch.tensor([self._probe()], device=self.device)
        hidden, weight = self.model.base_model(ids).last_hidden_state, self.model.get_output_embeddings().weight
        if hidden.shape[-1] != weight.shape[-1]:
            return False
        return self._alike(hidden.float() @ weight.float().T, self.model(ids).logits)

    @torch.inference_mode()
    def _follows_trees(self) -> bool:
        """Whether two continuations of one context come out in one row, and after a beginning of their own, as each alone."""
        ids = self._probe()
        context, ends = tuple(ids[:6]), (tuple(ids[6:8]), tuple(ids[8:]))
        requests = [Fitted(inputs=context + end, targets=end, dropped=0) for end in ends]
        wanted = torch.cat([self.model(torch.tensor([[*context, *end]], device=self.device)).logits[0] for end in ends])
        try:
            for skip in (0, 3):
                row = row_of(list(enumerate(requests)), skip)
                layout = padded([row], skip, self.device)
                prefix = self.begin(context[:skip]) if skip else None
                made = self._logits(layout, prefix)[0]
                # The row: context, first end, second end; each alone: context and its end.
                if not self._alike(made, wanted[[*range(skip, 8), 14, 15]]):
                    return False
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, KeyError):
            return False  # it knows no such mask, or keeps no keys and values
        return True

    def _logits(self, layout: Layout, prefix: Any) -> Tensor:
        return self.run(layout, prefix, lambda x_BTW, weight_VW: x_BTW if weight_VW is None else x_BTW @ weight_VW.T)

    def _alike(self, a: Tensor, b: Tensor) -> bool:
        close = 1e-4 if self.dtype == torch.float32 else 0.05
        return a.shape == b.shape and bool((a.float() - b.float()).abs().max() <= close * b.float().abs().max())

    @torch.inference_mode()
    def begin(self, tokens: Sequence[int]) -> Any:
        """Return the keys and values of a shared beginning."""
        made = self.model.base_model(torch.tensor([list(tokens)], device=self.device), use_cache=True)
        return made.past_key_values

    @torch.inference_mode()
    def run(self, layout: Layout, prefix: Any, head: Head[R]) -> R:
        """Return what `head` makes of the hidden states; of the logits where the model does more than multiply."""
        given: dict[str, Any] = {
            "input_ids": layout.tokens_BT,
            "use_cache": prefix is not None,
        }
        if layout.mask is not None:
            given["position_ids"] = layout.positions_BT
            given["attention_mask"] = torch.where(layout.mask, 0.0, torch.finfo(self.dtype).min).to(self.dtype)
        if prefix is not None:
            given["past_key_values"] = _expanded(prefix, len(layout.tokens_BT))
        if self._plain_head:
            hidden_BTW = self.model.base_model(**given).last_hidden_state
            return head(hidden_BTW, self.model.get_output_embeddings().weight)
        return head(self.model(**given).logits, None)

    @torch.inference_mode()
    def continue_greedily(self, prompts: Sequence[Sequence[int]], most: int, ended: Ended) -> list[list[int]]:
        """Return the most likely continuation of each prompt, one prompt at a time: no two libraries pad alike."""
        found = []
        for prompt in prompts:
            made: list[int] = []
            given = torch.tensor([list(prompt)], device=self.device)
            cache: Any = None
            while len(made) < most and len(prompt) + len(made) <= self.context and not (made and ended(made)):
                out = self.model(given, past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                made.append(int(out.logits[0, -1].argmax()))
                given = torch.tensor([[made[-1]]], device=self.device)
            found.append(made)
        return found


def _has_window(config: Any, context: int) -> bool:
    """Whether some layers see the last tokens only: a mask that is given takes the place of theirs."""
    sizes = [
        getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "attention_window_size")
    ]
    return any(isinstance(size, int) and size < context for size in sizes)


def _expanded(prefix: Any, batch: int) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()
    for number, layer in enumerate(prefix.layers):
        shape = (batch, -1, -1, -1)
        cache.update(layer.keys.expand(shape), layer.values.expand(shape), number)
    return cache
