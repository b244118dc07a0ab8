"""Texts on which an encoder goes wrong first; the compiled one is compared with the library on them at start-up."""

from __future__ import annotations

from collections.abc import Sequence

from olmo_core.kernels.unicode_classes import CODE_POINTS, UnicodeTables, load_tables, run_lengths

_PIECES = (
    "", "word", "Wörter", "O'Neil's", "we'll", "I'D", "''s", "3,141", "١٢٣", "½x", "漢字かな", "한국어", "नमस्ते", "שָׁלוֹם",
    "naïve", "nai\u0308ve", "e\u0301\u0323", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u212b", ">\u0338", "\u0301", "👩\u200d👩", "\U0001d15e",
    " ", "\t", "\n", "\r\n", "\u00a0", "\u3000", "\u2028", "\u0085", "\v\f", "\0", "\x1c", "\ufeff", "...", "!?", "<|", "|||", "'", "#!/",
    "----------------------------", "<|endoftext|>", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
)  # fmt: skip
_GLUE = ("", " ", "  ", "\n", "x", "|", "'s", "\n\n", "\u0301", "7")
_LONGEST_RUN = 60


def _edges(tables: UnicodeTables) -> str:
    """Return the first and last code point of each run in either table, where their kind decides how to split."""
    edges: set[int] = set()
    for table in tables:
        starts = run_lengths(table[:CODE_POINTS])[0].tolist()
        edges.update(starts)
        edges.update(start - 1 for start in starts if start)
    return "".join(
        f"a{chr(point)}'s 1{chr(point)}b\n\n{chr(point)}x " for point in sorted(edges) if not 0xD800 <= point < 0xE000
    )


def tricky_texts(added: Sequence[str]) -> list[str]:
    """Return about 700 short texts and a few long ones, `added` being the contents of all added tokens.

    Each piece stands before two others, each added token between all kinds of neighbours, runs of spaces of 1 to 60
    between words and line ends; one text has every edge of every Unicode class.
    """
    texts = [
        first + _PIECES[(7 * place + step) % len(_PIECES)] for place, first in enumerate(_PIECES) for step in (1, 5, 11)
    ]
    marks = [content for content in added if content.strip(" ")]
    texts += [before + mark + after for mark in marks for before in _GLUE for after in _GLUE]
    texts += [first + second for first in marks for second in marks]
    texts += [f"x{' ' * length}y\n{' ' * length}\n{' ' * length}" for length in range(1, _LONGEST_RUN + 1)]
    texts.append(_edges(load_tables()))
    texts.append("".join(_PIECES) * 3)
    texts.append("abcabd" * 3000 + "=-" * 3000)
    return texts
