"""Text to token ids for evaluation, by the `tokenizers` library alone: no compiled kernels, so that it runs where models run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import tokenizers

from olmo_core.errors import AssetError

_END_OF_TEXT = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>")
"""Names of the token that ends a document, the most common first."""


_TEMPLATE_BY_SETTING = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer", "GPTNeoXTokenizer")
"""Tokenizers of transformers that lay `add_bos_token` over what their file says; the others heed their file alone."""
_AT_ONCE = 1024
"""Texts that are encoded at a time."""

Ids = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class TextRules:
    """How texts become the ids that a Hugging Face model is asked, as lm-eval's `HFLM` does it (0.4.13)."""

    start: str | None = None
    """Token before a document, and in the place of a context without text; None: the one that ends a document."""
    begins: bool | None = None
    """Whether `start` stands before each prompt; None: what the tokenizer's own template puts there."""
    ends: Ids = ()
    """Tokens that end an answer, beside the one that ends a document: models for chats have several."""


class Encoder:
    """A tokenizer read from a `tokenizer.json`.

    Attributes: `identity`, the sha256 of the file's bytes; `vocabulary`, the highest id + 1; `end_of_text`, the id that
    ends a document; `start`, the id that stands before the first token of one; `before`, the ids before each prompt;
    `together`, whether a context and its continuation are encoded as one text; `ends`, the ids of which each ends an answer.
    """

    def __init__(self, path: str | Path, end_of_text: int | None = None, rules: TextRules | None = None) -> None:
        """Read it; `rules` of a Hugging Face model. Without them, for a model of ours, nothing stands before a prompt, contexts and
        continuations are encoded apart, and what ends a document stands before the next, as in training on packed documents.

        Raises AssetError for a file that is no tokenizer, that lacks the token `rules.start`, or of which nobody knows what ends a document.
        """
        try:
            raw = Path(path).read_bytes()
            self._tokenizer = tokenizers.Tokenizer.from_str(raw.decode("utf-8"))
        except Exception as error:
            raise AssetError(
                f"{path} is no tokenizer.json ({error}); give the one that belongs to the model"
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self.identity = hashlib.sha256(raw).hexdigest()
        self.vocabulary = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        known = [i for name in _END_OF_TEXT if (i := self._tokenizer.token_to_id(name)) is not None]
        if end_of_text is None and not known:
            raise AssetError(f"{path}: which token ends a document? It has none of {', '.join(_END_OF_TEXT)}")
        self.end_of_text = end_of_text if end_of_text is not None else known[0]
        start = rules.start if rules is not None else None
        first = self._tokenizer.token_to_id(start) if start is not None else self.end_of_text
        if first is None:
            raise AssetError(f"{path} has no token {start!r}, which the model's configuration puts before texts")
        self.start: int = first
        self.ends = frozenset((self.end_of_text, *(rules.ends if rules is not None else ())))
        self.together = rules is not None
        self.before: Ids = ()
        if rules is not None and rules.begins is None:
            self.before = self._template()
        elif rules is not None and rules.begins and start is not None:
            self.before = (first,)

    def _template(self) -> Ids:
        """Return what the file's post-processor puts before a text; what it puts behind one (T5) has no place in a prompt."""
        made = self._tokenizer.encode("a", add_special_tokens=True)
        ahead = made.special_tokens_mask.index(0) if 0 in made.special_tokens_mask else 0
        return tuple(made.ids[:ahead])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens; those in the text are plain text."""
        return [one.ids for one in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text as a model is to continue it: after what its tokenizer puts before texts."""
        return [[*self.before, *ids] for ids in self.encode(texts)]

    def pairs(self, asked: Sequence[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
        """Return the ids of contexts and continuations.

        Encoded `together`, a context without text is the token `start`, a continuation is what both have more than the context alone, and
        spaces at the context's end are the continuation's: so a tokenizer that begins every text with a space (Llama 2, Mistral) begins
        no continuation with a second one.
        """
        split = [_spaces_moved(*pair) for pair in asked] if self.together else list(asked)
        contexts = self._encoded({context for context, _ in split if context})
        apart = self._encoded({text for context, text in split if not (self.together and context)})
        found: list[tuple[Ids, Ids]] = []
        rest = iter(split)
        while some := list(islice(rest, _AT_ONCE)):
            whole = self.encode([context + text for context, text in some]) if self.together else []
            for number, (context, text) in enumerate(some):
                if self.together and not context:
                    found.append(((self.start,), apart[text]))
                    continue
                own = contexts.get(context, ())
                target = tuple(whole[number][len(own) :]) if self.together else apart[text]
                found.append(((*self.before, *own), target))
        return found

    def _encoded(self, texts: set[str]) -> dict[str, Ids]:
        ordered = sorted(texts)
        return dict(zip(ordered, map(tuple, self.encode(ordered)), strict=True))

    def decode(self, ids: Sequence[int], *, special: bool = True) -> str:
        """Return the text of ids; without `special`, that of the tokens that are no special ones."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=not special)
        return text


def _spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    bare = context.rstrip()
    return bare, context[len(bare) :] + continuation


def rules_of(folder: Path) -> TextRules:
    """Return how texts are to become ids for the Hugging Face model in a folder.

    `HFLM` takes what transformers' tokenizer adds by itself (`add_bos_token` of its own is not set): in transformers 4 the setting of that
    name counts in some classes, which have one of their own where it is missing; version 5 heeds the file alone, as here then.
    """
    settings = _read(folder / "tokenizer_config.json")
    begins = settings.get("add_bos_token")
    heeded = str(settings.get("tokenizer_class", "")).removesuffix("Fast") in _TEMPLATE_BY_SETTING
    return TextRules(
        start=start_of_text_of(folder),
        begins=begins if heeded and isinstance(begins, bool) else None,
        ends=tuple(_ends(folder)),
    )


def start_of_text_of(folder: Path) -> str | None:
    """Return the token that a Hugging Face model in a folder has for the beginning of a text; None where it has none.

    lm-eval puts it before texts whose likelihood is asked, and without it the token that ends one (`HFLM.prefix_token_id`).
    """
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        value = _read(folder / name).get("bos_token")
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str) and value:
            return value
    return None


def end_of_text_of(folder: Path) -> int | None:
    """Return what the configuration of a Hugging Face model in a folder says ends a text; None where it says nothing."""
    return next(iter(_ends(folder)), None)


def _ends(folder: Path) -> list[int]:
    for name in ("generation_config.json", "config.json"):
        value = _read(folder / name).get("eos_token_id")
        found = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int)]
        if found:
            return found
    return []


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
