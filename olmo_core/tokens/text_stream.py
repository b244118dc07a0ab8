"""Text of tokens that come one by one: a character that takes several tokens is shown once it is whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_MOST_BYTES = 4
"""Bytes of a character in UTF-8, and so tokens that it may take."""


class TextStream:
    """Turns ids into text for a byte-level tokenizer."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        """`decode` gives the text of ids, with U+FFFD for bytes that are no whole character."""
        self._decode = decode
        self._pending: list[int] = []

    def push(self, token: int) -> str:
        """Return the text that this token completes; may be empty."""
        self._pending.append(token)
        text = self._decode(self._pending)
        if text.endswith(_INCOMPLETE) and len(self._pending) < _MOST_BYTES:
            return ""
        self._pending.clear()
        return text

    def rest(self) -> str:
        """Return the text of what is left when no more tokens come."""
        text = self._decode(self._pending) if self._pending else ""
        self._pending.clear()
        return text
