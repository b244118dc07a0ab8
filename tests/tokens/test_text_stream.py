"""Text comes as soon as its characters are whole, and none is lost."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from olmo_core.tokens.text_stream import TextStream


def decode(ids: Sequence[int]) -> str:
    """A tokenizer whose tokens are bytes."""
    return bytes(ids).decode("utf-8", errors="replace")


def test_characters_of_several_tokens_come_whole() -> None:
    text = TextStream(decode)
    assert [text.push(byte) for byte in "aé日😀".encode()] == ["a", "", "é", "", "", "日", "", "", "", "😀"]
    assert text.rest() == ""


def test_what_is_cut_off_comes_at_the_end() -> None:
    text = TextStream(decode)
    assert [text.push(byte) for byte in "日".encode()[:2]] == ["", ""]
    assert text.rest() == "\N{REPLACEMENT CHARACTER}"


@given(st.text())
def test_nothing_is_lost(written: str) -> None:
    text = TextStream(decode)
    assert "".join([*(text.push(byte) for byte in written.encode()), text.rest()]) == written
