"""Text to token ids: exactly what the `tokenizers` library gives, from Arrow buffers, many times faster.

Text is encoded with special tokens as plain text (the library's `encode_special_tokens = True`,
`encode(text, add_special_tokens=False)`): a page that holds a literal `<|endoftext|>` must not end a document. Added
tokens that are not special, such as `|||EMAIL_ADDRESS|||` and runs of spaces, do match.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers

from olmo_core.errors import AssetError, InputError, IntegrityError
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.byte_pairs_encode import SLACK, Vocabulary, encode_rows
from olmo_core.kernels.byte_pairs_words import empty_words
from olmo_core.kernels.unicode_classes_normal import compose
from olmo_core.tokens.tokenizer_check import tricky_texts
from olmo_core.tokens.tokenizer_json import UnsupportedTokenizer, compiled_vocabulary, highest_id

Engine = Literal["compiled", "library"]
Texts: TypeAlias = pa.LargeStringArray | pa.StringArray | pa.ChunkedArray
Ids: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

END_OF_TEXT = "<|endoftext|>"
_GROUP_BYTES = 1 << 24
"""Bytes of text encoded at a time: scratch is three times this, or the longest document's bytes where it is longer."""
_LIBRARY_GROUP_BYTES = 1 << 20
"""The same for the library, whose Encodings and lists take many times the bytes of the text."""


class Tokenizer:
    """A tokenizer read from a file; safe to share between threads (they take turns), pickled as its path.

    Attributes: `path`; `identity`, the sha256 of the file's bytes; `vocabulary_size`, the highest id + 1;
    `end_of_text_id`; `dtype`, the smallest unsigned type for the ids; `engine`, "compiled" or, for a tokenizer that
    the compiled encoder does not implement, "library"; `engine_reason`, why it is the library.
    """

    path: str
    identity: str
    vocabulary_size: int
    end_of_text_id: int
    dtype: np.dtype[np.unsignedinteger[Any]]
    engine: Engine
    engine_reason: str

    def __init__(self, path: str, content: bytes, *, engine: Engine | None, end_of_text: str) -> None:
        """Use `from_file`, which reads each file once per process."""
        self.path = path
        self.identity = hashlib.sha256(content).hexdigest()
        self._settings = (engine, end_of_text)
        try:
            description = json.loads(content)
            self._library = tokenizers.Tokenizer.from_buffer(content)
            self.vocabulary_size = highest_id(description) + 1
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{path} is not a tokenizer.json that tokenizers can read: {error}") from error
        self._library.encode_special_tokens = True
        self._library.no_truncation()
        self._library.no_padding()
        self.dtype = np.dtype(np.min_scalar_type(max(self.vocabulary_size - 1, 0)))
        end_of_text_id = self._library.token_to_id(end_of_text)
        if end_of_text_id is None:
            raise InputError(f"{path} has no token {end_of_text!r}; name the one that ends a text as end_of_text")
        self.end_of_text_id = end_of_text_id
        self.engine_reason = "asked for"
        vocabulary = None
        if engine != "library":
            try:
                vocabulary = compiled_vocabulary(description)
            except UnsupportedTokenizer as reason:
                self.engine_reason = str(reason)
                if engine == "compiled":
                    raise InputError(f"{path}: the compiled encoder does not implement it: {reason}") from reason
        if vocabulary is None:
            self.engine = "library"
            self._encode_group: Callable[[Texts], tuple[Ids, npt.NDArray[np.int64]]] = self._encode_by_library
            return
        self.engine, self.engine_reason = "compiled", ""
        self._encode_group = _CompiledEncoder(vocabulary, self.dtype)
        self._check([token["content"] for token in description.get("added_tokens", [])])

    @classmethod
    def from_file(cls, path: str | Path, *, engine: Engine | None = None, end_of_text: str = END_OF_TEXT) -> Tokenizer:
        """Return the tokenizer of a `tokenizer.json`, the same object for the same content within a process.

        `engine` forces one; by default it is "compiled" where that is exact. Takes about 1 s the first time. Raises
        AssetError when the file cannot be read, InputError when it is no tokenizer or has no token `end_of_text`,
        IntegrityError when the compiled encoder and the library disagree.
        """
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise AssetError(f"cannot read the tokenizer {path}: {error}; give the path of a tokenizer.json") from error
        return _shared(str(path), content, engine, end_of_text)

    def __getstate__(self) -> dict[str, Any]:
        """Pickle as path, identity and settings."""
        return {"path": self.path, "identity": self.identity, "_settings": self._settings}

    if not TYPE_CHECKING:  # to a type checker it would make every attribute exist

        def __getattr__(self, name: str) -> Any:
            """Read the file at the first use of an unpickled tokenizer; raises as `from_file`.

            Not while it is unpickled: an error there breaks a process pool, instead of being the task's. Also raises
            IntegrityError when the file has changed since it was pickled.
            """
            if name.startswith("__") or "_settings" not in self.__dict__ or "engine" in self.__dict__:
                raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
            engine, end_of_text = self._settings
            here = Tokenizer.from_file(self.path, engine=engine, end_of_text=end_of_text)
            if here.identity != self.identity:
                raise IntegrityError(
                    f"{self.path} has sha256 {here.identity}, not {self.identity} as when the work was planned; plan again"
                )
            self.__dict__.update(here.__dict__)
            return getattr(self, name)

    def encode(self, texts: Texts) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Return `(ids, offsets)`: row i is `ids[offsets[i]:offsets[i + 1]]`; no end-of-text id is added.

        `ids` has `dtype`, `offsets` n + 1 elements. Texts are valid UTF-8 and not null (ValueError). With the compiled
        engine scratch memory is bounded by the longest text; the library needs many times its bytes.
        """
        if texts.null_count:
            raise ValueError(f"text column has {texts.null_count} null rows; documents never have a null text")
        parts: list[Ids] = []
        offsets = np.zeros(len(texts) + 1, np.int64)
        step = _GROUP_BYTES if self.engine == "compiled" else _LIBRARY_GROUP_BYTES
        for first, last in _groups(texts, step):
            ids, starts = self._encode_group(texts.slice(first, last - first))
            offsets[first + 1 : last + 1] = starts[1:] + offsets[first]
            parts.append(ids)
        if len(parts) == 1:
            return parts[0], offsets
        return (np.concatenate(parts) if parts else np.zeros(0, self.dtype)), offsets

    def count(self, texts: Texts) -> npt.NDArray[np.int64]:
        """Return the number of ids of each text."""
        return np.diff(self.encode(texts)[1])

    def decode(self, ids: npt.ArrayLike) -> str:
        """Return the text of ids, special tokens included; bytes that are no whole character become U+FFFD."""
        return str(self._library.decode(np.asarray(ids).tolist(), skip_special_tokens=False))

    def _encode_by_library(self, texts: Texts) -> tuple[Ids, npt.NDArray[np.int64]]:
        encodings = self._library.encode_batch_fast(texts.to_pylist(), add_special_tokens=False)
        rows = [np.array(encoding.ids, self.dtype) for encoding in encodings]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return np.concatenate(rows), offsets

    def _check(self, added: list[str]) -> None:
        """Raise IntegrityError where the compiled encoder and the library differ on the tricky texts."""
        texts = tricky_texts(added)
        ids, offsets = self._encode_group(pa.array(texts, pa.large_string()))
        expected = self._library.encode_batch_fast(texts, add_special_tokens=False)
        for row, (text, encoding) in enumerate(zip(texts, expected, strict=True)):
            got = ids[offsets[row] : offsets[row + 1]].tolist()
            if got != encoding.ids:
                place = next((i for i, pair in enumerate(zip(got, encoding.ids)) if pair[0] != pair[1]), len(got))
                raise IntegrityError(
                    f"{self.path}: the compiled encoder and tokenizers {tokenizers.__version__} differ from token "
                    f"{place} of {text[:80]!r}: {got[place : place + 5]} and {encoding.ids[place : place + 5]}; use "
                    "the pinned version of tokenizers, or engine='library'"
                )


class _CompiledEncoder:
    """The compiled encoder with its memory of words, for one thread at a time."""

    def __init__(self, vocabulary: Vocabulary, dtype: np.dtype[Any]) -> None:
        self._vocabulary = vocabulary
        self._dtype = dtype
        self._words = empty_words()
        self._normalize = tokenizers.normalizers.NFC().normalize_str
        self._turn = threading.Lock()

    def __call__(self, texts: Texts) -> tuple[Ids, npt.NDArray[np.int64]]:
        text, offsets = compose(*text_buffers(texts), self._normalize)
        ids = np.empty(int(offsets[-1]) + SLACK, np.uint16)
        id_offsets = np.empty(len(offsets), np.int64)
        with self._turn:
            count = encode_rows(text, offsets, self._vocabulary, self._words, ids, id_offsets)
        return ids[:count].astype(self._dtype), id_offsets


def _groups(texts: Texts, step: int) -> Iterator[tuple[int, int]]:
    """Yield `(first, last)` rows of at most `step` bytes in all, or of one row that is longer."""
    ends = np.cumsum(np.asarray(pc.binary_length(texts)), dtype=np.int64)
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + step, side="right")))
        yield first, last
        first = last


@lru_cache(maxsize=4)
def _shared(path: str, content: bytes, engine: Engine | None, end_of_text: str) -> Tokenizer:
    return Tokenizer(path, content, engine=engine, end_of_text=end_of_text)
