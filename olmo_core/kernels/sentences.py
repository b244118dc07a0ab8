"""Where sentences begin and end in UTF-8 text, in one pass over the bytes.

The rules are those of `olmo_core.curation.sentences`. A sentence begins and ends with a character that is not white
space, and every such character is in exactly one sentence. Kernels take the buffers of `olmo_core.kernels.buffers`.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from olmo_core.kernels.quality_strings import leaf
from olmo_core.kernels.words import code_point, sequence_length

SPACE = 1
"""White space as `str.isspace()` has it."""
LOWER = 2
"""A lower-case letter: no sentence begins with one."""
STOP = 4
"""Ends a sentence when white space and a likely beginning follow."""
FULL_STOP = 8
"""Ends a sentence whatever follows: full-width and ideographic stops, behind which no space is written."""
CLOSER = 16
"""Belongs to the sentence whose stop it follows: closing quotes, brackets and marks of emphasis."""
NO_START = 32
"""Never the first character of a sentence: closing brackets, comma, colon, semicolon."""

WRAP = 50
"""Bytes from which a line counts as wrapped, so that it goes on where the next one begins in lower case."""
LONGEST = 4096
"""Bytes after which a sentence ends at the next white space: text without stops (tables, logs) is cut into pieces."""

NEVER = """\
    mr mrs ms messrs mme mlle dr prof rev fr hon pres gov sen rep gen col lt maj capt cmdr adm sgt cpl supt insp st ste
    mt ft vs viz cf eg ie e.g i.e al ca approx resp esp incl excl ex dept univ assn bros ph.d op.cit"""
"""Abbreviations that never end a sentence (lower case, without the last stop)."""
BEFORE_DIGIT = """\
    no nos nr vol vols p pp fig figs tab sec sect ch chap eq eqs art para pt ver v jan feb mar apr jun jul aug sep
    sept oct nov dec"""
"""Abbreviations that end no sentence when a digit follows."""


@lru_cache(maxsize=1)
def sentence_classes() -> npt.NDArray[np.uint8]:
    """The bits above for every code point (2**21 entries: no UTF-8 sequence, even an invalid one, reads outside).

    Lower case is taken from blocks below U+2000 that no longer change between Unicode versions, so the table is the
    same under every Python from 3.11; Georgian has no case in running text and is left out.
    """
    table = np.zeros(1 << 21, np.uint8)
    for point in range(0x3001):
        table[point] |= SPACE * chr(point).isspace()
    for low, high in ((0x00, 0x590), (0x1E00, 0x2000)):
        for point in range(low, high):
            table[point] |= LOWER * (unicodedata.category(chr(point)) == "Ll")
    for characters, bits in (
        (".!?…‼⁇⁈⁉।॥؟۔", STOP),
        ("。！？｡", STOP | FULL_STOP),
        ("'\")]}’”»›*_`", CLOSER),
        ("」』）】〉》", CLOSER | NO_START),
        (")]},;:%", NO_START),
    ):
        for character in characters:
            table[ord(character)] |= bits
    return table


@lru_cache(maxsize=1)
def abbreviations() -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Both lists of abbreviations as sorted words of 8 bytes (little-endian, zero-padded), uint64."""

    def packed(words: str) -> npt.NDArray[np.uint64]:
        return np.array(sorted(int.from_bytes(word.encode(), "little") for word in words.split()), np.uint64)

    return packed(NEVER), packed(BEFORE_DIGIT)


@leaf
def bits_at(text, i, classes):
    """Return the class bits of the character that begins at byte `i`."""
    if text[i] < 0x80:
        return classes[text[i]]
    return classes[code_point(text, i)]


@leaf
def skip_space(text, i, end, classes):
    """Return the first byte from `i` on that begins no white space, or `end`."""
    while i < end and bits_at(text, i, classes) & SPACE:
        i += sequence_length(text[i])
    return i


@leaf
def trim_space(text, start, end, classes):
    """Return `end` moved left over white space, not below `start`."""
    while end > start:
        i = end - 1
        while i > start and (text[i] & 0xC0) == 0x80:
            i -= 1
        if not bits_at(text, i, classes) & SPACE:
            break
        end = i
    return end


@leaf
def count_line_ends(text, start, end):
    r"""Return the number of line ends (\n, \r\n or \r) in bytes `start` to `end`."""
    count = 0
    for i in range(start, end):
        count += text[i] == 10 or (text[i] == 13 and not (i + 1 < end and text[i + 1] == 10))
    return count


@leaf
def is_abbreviation(text, start, stop, following, never, before_digit):
    """Return whether the full stop at byte `stop` belongs to the word before it, in a sentence from byte `start`.

    `following` is the first byte of the next word. True for the abbreviations listed, for initials (one letter, or
    letters with stops between them: "J. R. R.", "U.S.") and for a number that opens the sentence ("1. Install").
    """
    begin = stop
    while begin > start and (text[begin - 1] == 46 or 97 <= text[begin - 1] | 32 <= 122):
        begin -= 1
    if begin == stop:
        while begin > start and 48 <= text[begin - 1] <= 57:
            begin -= 1
        return begin == start and 0 < stop - begin <= 3
    if begin > start and (text[begin - 1] >= 0x80 or 48 <= text[begin - 1] <= 57):
        return False
    initials = (stop - begin) % 2 == 1
    for i in range(begin, stop):
        if (i - begin) % 2 == 1:
            initials = initials and text[i] == 46
        else:
            initials = initials and 65 <= text[i] <= 90
    if initials or (stop - begin == 1 and begin == start):
        return True
    if stop - begin > 8:
        return False
    word = np.uint64(0)
    for i in range(stop - 1, begin - 1, -1):
        word = word << np.uint64(8) | np.uint64(text[i] | 32 if text[i] != 46 else 46)
    at = np.searchsorted(never, word)
    if at < len(never) and never[at] == word:
        return True
    at = np.searchsorted(before_digit, word)
    return at < len(before_digit) and before_digit[at] == word and 48 <= following <= 57


@leaf
def sentence_end(text, start, end, classes, never, before_digit):
    """Return `(stop, resume)`: where the sentence that begins at `start` ends, and where to look for the next one."""
    i = start
    line = start
    while i < end:
        byte = text[i]
        if byte < 0x80:
            bits = classes[byte]
            if not bits & (STOP | SPACE) or (byte == 32 and 32 < text[i + 1] < 0x80 and i - start < LONGEST):
                i += 1  # most bytes: a letter, or a single space between words
                continue
        else:
            bits = classes[code_point(text, i)]
            if not bits & (STOP | SPACE):
                i += sequence_length(byte)
                continue
        if bits & SPACE:
            after = skip_space(text, i, end, classes)
            if after == end:
                return i, end
            lines = count_line_ends(text, i, after)
            goes_on = lines == 0 and i - start < LONGEST
            if lines == 1 and i - line >= WRAP and i - start < LONGEST:
                goes_on = bits_at(text, after, classes) & LOWER != 0
            if not goes_on:
                return i, after
            if lines:
                line = after
            i = after
            continue
        if byte == 46 and i > start and text[i - 1] <= 32:  # no word before it: ".. note", ".NET"
            while i < end and text[i] == 46:
                i += 1
            continue
        first = i
        stops = 0
        full = False
        while i < end and bits & (STOP | CLOSER):
            full = full or bits & FULL_STOP != 0
            stops += bits & STOP != 0
            i += sequence_length(text[i])
            bits = bits_at(text, i, classes)  # at the end of the text: padding, or the next row's first byte
        if i == end or full:
            return i, i
        if not bits_at(text, i, classes) & SPACE:
            continue
        after = skip_space(text, i, end, classes)
        if after == end:
            return i, end
        if bits_at(text, after, classes) & (LOWER | NO_START):
            continue
        single = stops == 1 and text[first] == 46
        if single and is_abbreviation(text, start, first, text[after], never, before_digit):
            if count_line_ends(text, i, after) == 0:
                i = after
            continue
        return i, after
    return end, end


@leaf
def fill(text, offsets, classes, never, before_digit, row, i, count, starts, ends, rows):
    """Write sentences into `starts` and `ends` (int64) from number `count` on; return `(row, i, count)` to go on with.

    Begins in row `row` at byte `i`, and stops behind the last row or when the arrays are full. `rows` (int64[n + 1])
    gets the number of the sentence each row begins with.
    """
    while row < len(offsets) - 1:
        end = offsets[row + 1]
        i = skip_space(text, i, end, classes)
        if i == end:
            row += 1
            rows[row] = count
            continue
        if count == len(starts):
            break
        stop, resume = sentence_end(text, i, end, classes, never, before_digit)
        starts[count] = i
        ends[count] = trim_space(text, i, stop, classes)
        count += 1
        i = resume
    return row, i, count


def split(
    text: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return `(starts, ends, rows)`: bytes int64[s] of every sentence, and int64[n + 1] where each row's begin."""
    classes, (never, before_digit) = sentence_classes(), abbreviations()
    rows = np.zeros(len(offsets), np.int64)
    starts, ends = (np.empty(16 + len(offsets) + len(text) // 64, np.int64) for _ in range(2))
    row, i, count = 0, 0, 0
    while True:
        row, i, count = fill(text, offsets, classes, never, before_digit, row, i, count, starts, ends, rows)
        if row == len(offsets) - 1:
            return starts[:count], ends[:count], rows
        starts, ends = (np.concatenate((full, np.empty_like(full))) for full in (starts, ends))
