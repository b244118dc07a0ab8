r"""Personal information in text: e-mail addresses, phone numbers and IPv4 addresses, as spans of what gets replaced.

Two definitions. `dolma_compatible` gives exactly the spans of the dolma toolkit's production tagger
(`pii_regex_with_counts_fast_v2` of dolma 1.2.1, `olmo_core.kernels.pii_compatible`). `fixed` follows it and mends what
it silently gets wrong (an address at the end of the text, a phone at the start of a line or with a country code, parts
of longer numbers, versions, white space and brackets inside the span, no spans at all above 10,000 question marks):

e-mail    local part, `@`, domain, wherever they stand. Local part: up to 64 bytes of letters, digits and `._%+-`, not
          beginning with punctuation other than `_`. Domain: two or more labels of letters, digits and hyphens with dots
          between, 255 bytes at most; the last one has only letters, two or more, or begins with `xn--`. Letters are
          those of scripts with spaces between words. Not: the login of a URL (`https://user:secret@host`), what `@`,
          `_`, `:` and a path (`git@host:path`) or `(` and no space (a call) follows.
phone     ten digits 3-3-4 as in the toolkit: the area code may stand in parentheses, up to three of `-. ` follow it,
          up to one follows the next three; `1` or `+1` may stand before. Or `+` and a country code: 9 to 15 digits in
          groups with single `-. ` between, the second group may stand in parentheses. Not: a part of a longer number,
          word or path (after a letter, digit or `_.-+/=#$%&@,\`; before a digit, a letter that begins no extension,
          or `.` or `-` and a digit); `123.4567890`, a decimal number; ten digits in one piece that begin with 0 or 1
          (no North American area code does; times in seconds do).
ip        four numbers 0 to 255 with dots. Not: a part of a longer number or word; behind `.`, `_`, `^`, `~`, a letter
          and `-` or `/`, `==` and its like, or a word such as version, release, section (versions); before a letter, a
          digit, `.` and either, `-` and a letter; 0.x, 127.x and 255.x (this host, loopback, masks: nobody's address).

Known to be weak: tables of ten-digit numbers are taken for phones and section numbers at the start of a heading for
addresses, by both definitions; IPv6, national numbers of other countries and spelled-out addresses (`a at b dot c`)
are not looked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.pii_characters import pii_classes
from olmo_core.kernels.pii_compatible import find_compatible
from olmo_core.kernels.pii_fixed import find_fixed

VERSION = 1
"""Bumped when the same text gives other spans."""

KINDS = ("email", "phone", "ip")
"""Kinds of span, in the order in which the kernels number them."""

MASKS: Mapping[str, str] = MappingProxyType(
    {"email": "|||EMAIL_ADDRESS|||", "phone": "|||PHONE_NUMBER|||", "ip": "|||IP_ADDRESS|||"}
)
"""What replaces a span of each kind: tokens of the OLMo tokenizer."""

COMPATIBLE_MASKS: Mapping[str, str] = MappingProxyType({kind: f" {mask} " for kind, mask in MASKS.items()})
"""What the toolkit's mixing recipes put in: with spaces, since its spans take the white space around along."""

SPANS = pa.list_(pa.struct({"start": pa.int64(), "end": pa.int64(), "kind": pa.string()}))
"""Type of `pii_spans`: byte offsets into the text, end exclusive, ordered by start."""

FEWEST_SPANS = 1024
"""Room for spans at first, with one more for every `BYTES_A_SPAN` of text; a second pass follows when it is short."""

BYTES_A_SPAN = 512


@dataclass(frozen=True, kw_only=True)
class PiiRecipe:
    """Which definition of personal information to follow."""

    definition: Literal["fixed", "dolma_compatible"] = "fixed"
    """`fixed`, or `dolma_compatible` for the toolkit's exact spans (for comparison)."""


def tag(texts: pa.LargeStringArray, recipe: PiiRecipe) -> pa.RecordBatch:
    """Return, for each text, `pii_spans` and the counts `pii_count`, `pii_email_count`, `pii_phone_count`, `pii_ip_count`.

    Spans of the fixed definition do not overlap; the toolkit's may (its counts count them all). Counts are int32.
    """
    rows, starts, ends, kinds = _find(texts, recipe)
    order = np.lexsort((kinds, ends, starts, rows))
    bounds = np.searchsorted(rows, np.arange(len(texts) + 1))
    names = pa.array(KINDS, pa.string()).take(pa.array(kinds[order]))
    spans = pa.StructArray.from_arrays(
        [pa.array(starts[order]), pa.array(ends[order]), names], fields=list(SPANS.value_type)
    )
    columns = {"pii_spans": pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), spans, type=SPANS)}
    columns["pii_count"] = pa.array(np.diff(bounds), pa.int32())
    for number, kind in enumerate(KINDS):
        counts = np.bincount(rows[kinds == number], minlength=len(texts))
        columns[f"pii_{kind}_count"] = pa.array(counts, pa.int32())
    return pa.RecordBatch.from_pydict(columns)


Found = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.uint8]]


def _find(texts: pa.LargeStringArray, recipe: PiiRecipe) -> Found:
    """Return row, start, end and kind of every span; rows ascend."""
    find = find_compatible if recipe.definition == "dolma_compatible" else find_fixed
    text, offsets = text_buffers(texts)
    room = FEWEST_SPANS + len(text) // BYTES_A_SPAN
    while True:
        rows, starts, ends = (np.empty(room, np.int64) for _ in range(3))
        kinds = np.empty(room, np.uint8)
        found = find(text, offsets, pii_classes(), rows, starts, ends, kinds)
        if found <= room:
            return rows[:found], starts[:found], ends[:found], kinds[:found]
        room = found
