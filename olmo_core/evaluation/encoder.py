"""Text to token ids for evaluation, by the `tokenizers` library alone: no compiled kernels, so that it runs where models run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from olmo_core.errors import AssetError

_END_OF_TEXT = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "<|im_end|>")
"""Names of the token that ends a document, the most common first."""


class Encoder:
    """A tokenizer read from a `tokenizer.json`.

    Attributes: `identity`, the sha256 of the file's bytes; `vocabulary`, the highest id + 1; `end_of_text`, the id that
    ends a document; `start`, the id that stands before the first token of one.
    """

    def __init__(self, path: str | Path, end_of_text: int | None = None, start: str | None = None) -> None:
        """Read it; `start` is a token, and without it what ends a document stands before the next, as in training on packed documents.

        Raises AssetError for a file that is no tokenizer, that lacks `start`, or of which nobody knows what ends a document.
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
        first = self._tokenizer.token_to_id(start) if start is not None else self.end_of_text
        if first is None:
            raise AssetError(f"{path} has no token {start!r}, which the model's configuration puts before texts")
        self.start: int = first

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without special tokens; those in the text are plain text."""
        return [one.ids for one in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=False)
        return text


def start_of_text_of(folder: Path) -> str | None:
    """Return the token that a Hugging Face model in a folder has for the beginning of a text; None where it has none.

    lm-eval puts it before texts whose likelihood is asked, and without it the token that ends one (`HFLM.prefix_token_id`).
    """
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        value = json.loads(path.read_text(encoding="utf-8")).get("bos_token") if path.is_file() else None
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str) and value:
            return value
    return None


def end_of_text_of(folder: Path) -> int | None:
    """Return what the configuration of a Hugging Face model in a folder says ends a text; None where it says nothing."""
    for name in ("generation_config.json", "config.json"):
        path = folder / name
        value = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
        if isinstance(value, list):
            value = value[0] if value else None
        if isinstance(value, int):
            return value
    return None
