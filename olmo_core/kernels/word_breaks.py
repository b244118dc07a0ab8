"""Words by Unicode's own definition (UAX 29, word boundaries), counted as Paloma counts them; and punctuation.

The tables come from the `regex` package's property files (`word_breaks_build.py` makes `word_breaks.npz`); tests ask
`regex` and `uniseg`, two independent implementations, whether the counts are right.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from olmo_core.kernels.quality_strings import leaf
from olmo_core.kernels.unicode_classes import CODE_POINTS, TABLE_SIZE
from olmo_core.kernels.words import code_point, sequence_length

CLASSES = (
    "Other",
    "CR",
    "LF",
    "Newline",
    "Extend",
    "ZWJ",
    "Format",
    "Regional_Indicator",
    "Katakana",
    "Hebrew_Letter",
    "ALetter",
    "Single_Quote",
    "Double_Quote",
    "MidNumLet",
    "MidLetter",
    "MidNum",
    "Numeric",
    "ExtendNumLet",
    "WSegSpace",
)
"""Values of the property Word_Break, in the order of the table's numbers."""

PICTOGRAPH = 32
"""Bit of the table: Extended_Pictographic."""
SPACE = 64
r"""Bit of the table: white space for `str.strip` (and `\s`)."""
PUNCTUATION = 128
"""Bit of the table: what the toolkit's `not_alphanum_paragraph_v1` takes as punctuation: POSIX punctuation, white space,
and the blocks of pictographs it names."""

_CR, _LF, _NEWLINE, _EXTEND, _ZWJ, _FORMAT = 1, 2, 3, 4, 5, 6
_REGIONAL, _KATAKANA, _HEBREW, _LETTER = 7, 8, 9, 10
_SINGLE, _DOUBLE, _MIDNUMLET, _MIDLETTER, _MIDNUM = 11, 12, 13, 14, 15
_NUMERIC, _EXTENDNUMLET, _WSEGSPACE = 16, 17, 18
_CLASS = 31


@cache
def word_break_table() -> npt.NDArray[np.uint8]:
    """Return the class and bits of every code point, uint8[TABLE_SIZE], read-only; expanded once per process."""
    with (
        files(__package__).joinpath("word_breaks.npz").open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        table = np.zeros(TABLE_SIZE, np.uint8)
        table[:CODE_POINTS] = np.repeat(stored["values"], np.diff(stored["starts"], append=CODE_POINTS))
    table.flags.writeable = False
    return table


@leaf
def point_at(text, i):
    """Return the code point that begins at byte `i`."""
    point = np.int64(text[i])
    return code_point(text, i) if point >= 0x80 else point


@leaf
def trimmed_begin(text, i, end, table):
    """Return the first byte at or behind `i` that is no white space, or `end`."""
    while i < end and table[point_at(text, i)] & SPACE:
        i += sequence_length(text[i])
    return min(i, end)


@leaf
def trimmed_end(text, begin, end, table):
    """Return the byte behind the last character before `end` that is no white space, or `begin`."""
    while end > begin:
        i = end - 1
        while i > begin and (text[i] & 0xC0) == 0x80:
            i -= 1
        if not table[point_at(text, i)] & SPACE:
            break
        end = i
    return end


@leaf
def all_punctuation(text, begin, end, table):
    """Return whether bytes `begin` to `end` hold nothing but punctuation, white space and pictographs."""
    i = begin
    while i < end:
        if not table[point_at(text, i)] & PUNCTUATION:
            return False
        i += sequence_length(text[i])
    return True


@leaf
def next_class(text, i, end, table):
    """Return the class of the first character at or behind `i` that WB4 does not skip; Other (0) at the end."""
    while i < end:
        kind = table[point_at(text, i)] & _CLASS
        if kind != _EXTEND and kind != _ZWJ and kind != _FORMAT:
            return kind
        i += sequence_length(text[i])
    return 0


@leaf
def is_letter(kind):
    """Return whether a class is AHLetter of UAX 29."""
    return kind in (_LETTER, _HEBREW)


@leaf
def joins(before, last, kind, after):
    """Return whether rules WB5 to WB13b forbid a break between classes `last` and `kind`.

    `before` is the class before `last`, `after` the one behind `kind`, all without the characters that WB4 skips.
    """
    if is_letter(last):
        if is_letter(kind) or kind in (_NUMERIC, _EXTENDNUMLET):
            return True
        if kind in (_MIDLETTER, _MIDNUMLET, _SINGLE):
            return is_letter(after) or (last == _HEBREW and kind == _SINGLE)
        return last == _HEBREW and kind == _DOUBLE and after == _HEBREW
    if (last in (_MIDLETTER, _MIDNUMLET, _SINGLE)) and is_letter(kind) and is_letter(before):
        return True
    if last == _DOUBLE:
        return before == _HEBREW and kind == _HEBREW
    if last in (_MIDNUM, _MIDNUMLET, _SINGLE):
        return before == _NUMERIC and kind == _NUMERIC
    if last == _NUMERIC:
        if is_letter(kind) or kind in (_NUMERIC, _EXTENDNUMLET):
            return True
        return (kind in (_MIDNUM, _MIDNUMLET, _SINGLE)) and after == _NUMERIC
    if last == _KATAKANA:
        return kind in (_KATAKANA, _EXTENDNUMLET)
    if last == _EXTENDNUMLET:
        return is_letter(kind) or kind in (_NUMERIC, _KATAKANA, _EXTENDNUMLET)
    return False


@leaf
def count_words(text, begin, end, enough, table):
    """Return the number of segments between UAX 29's word boundaries that are not white space only; stop at `enough`.

    As the toolkit's `uniseg_length_paragraphs_with_empty_v1` counts: punctuation marks are segments too.
    """
    count = 0
    inked = False  # the open segment holds something other than white space, and is counted
    before = 0
    last = 0
    previous = 0  # class of the character just before, whatever it is
    regional = 0  # regional indicators in a row
    i = begin
    while i < end and count < enough:
        bits = table[point_at(text, i)]
        kind = bits & _CLASS
        size = sequence_length(text[i])
        skipped = kind in (_EXTEND, _ZWJ, _FORMAT)
        if i == begin:
            breaks = True
        elif previous == _CR and kind == _LF:
            breaks = False
        elif _CR <= previous <= _NEWLINE or _CR <= kind <= _NEWLINE:
            breaks = True
        elif (
            (previous == _ZWJ and bits & PICTOGRAPH != 0) or (previous == _WSEGSPACE and kind == _WSEGSPACE) or skipped
        ):
            breaks = False
        elif last == _REGIONAL and kind == _REGIONAL:
            breaks = regional % 2 == 0
        else:
            breaks = not joins(before, last, kind, next_class(text, i + size, end, table))
        inked = inked and not breaks
        if not inked and bits & SPACE == 0:
            inked = True
            count += 1
        previous = kind
        if not skipped:
            regional = regional + 1 if kind == _REGIONAL else 0
            before = last
            last = kind
        i += size
    return count
