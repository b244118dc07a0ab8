"""Arrow columns as the pieces of JSON lines, and lines into gzip files; no Python object for a row.

Everything is `large_string`; a null piece means that the row has no such field.
"""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.errors import IntegrityError
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.json_quoting import LETTERS, SIZES, quote, quoted_offsets

STRING = pa.large_string()
DIGITS = 5
"""Digits of a score behind the point: `TAGGER_SCORE_PRECISION` of the toolkit."""
_GZIP_LEVEL = 6
_NEAR_TIE = 1e-4


def quoted(strings: pa.Array) -> pa.LargeStringArray:
    """Return each string as JSON writes it, with its quotes; nulls stay null."""
    text, offsets = text_buffers(pc.fill_null(strings.cast(STRING), ""))
    starts = np.empty(len(offsets), np.int64)
    quoted_offsets(text, offsets, SIZES, starts)
    out = np.empty(int(starts[-1]), np.uint8)
    quote(text, offsets, LETTERS, starts, out)
    made = from_buffers(starts, out)
    return made if not strings.null_count else pc.if_else(pc.is_valid(strings), made, pa.scalar(None, STRING))


def from_buffers(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8] | pa.Buffer) -> pa.LargeStringArray:
    """Return the strings that n + 1 offsets cut out of a buffer, without a copy."""
    held = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    return pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(np.ascontiguousarray(offsets)), held)


def joined(*pieces: pa.Array | str) -> pa.LargeStringArray:
    """Return the pieces of each row laid end to end; null where one of them is null."""
    scalars = [pa.scalar(p, STRING) if isinstance(p, str) else p for p in pieces]
    return pc.binary_join_element_wise(*scalars, pa.scalar("", STRING))


def fields(rows: int, *pieces: pa.Array) -> pa.LargeStringArray:
    """Return the JSON object of each row from fields with a comma in front, such as `,"id":"a"`; null fields are left out."""
    if not pieces:
        return pa.repeat(pa.scalar("{}", STRING), rows)
    inner = joined(*(pc.fill_null(p, "") for p in pieces))
    return joined("{", pc.utf8_slice_codeunits(inner, 1), "}")


def whole(numbers: npt.NDArray[np.int64]) -> pa.LargeStringArray:
    """Return integers as text."""
    return pa.array(numbers).cast(STRING)


def scores(values: pa.Array, what: str) -> pa.LargeStringArray:
    """Return numbers or booleans as JSON floats (`6.0`, never `6`), rounded as Python rounds to `DIGITS`; nulls stay.

    The point matters: a JSONPath filter of the toolkit does not find 1 equal to 1.0. Raises IntegrityError for a value
    that JSON cannot express, naming `what`.
    """
    numbers = values.cast(pa.int8()) if pa.types.is_boolean(values.type) else values
    floats = pc.fill_null(numbers.cast(pa.float64()), 0.0).to_numpy(zero_copy_only=False)
    if not np.isfinite(floats).all():
        row = int(np.flatnonzero(~np.isfinite(floats))[0])
        raise IntegrityError(f"{what}: the value of row {row} is {floats[row]}; the stage that wrote it is at fault")
    # numpy multiplies, rounds and divides: beside a tie it may go the other way than Python, which is exact.
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = np.round(floats, DIGITS)
        scaled = np.abs(floats) * 10.0**DIGITS
        ties = np.flatnonzero((np.abs(scaled - np.floor(scaled) - 0.5) < _NEAR_TIE) | (scaled > 2.0**50))
    rounded[ties] = [round(value, DIGITS) for value in floats[ties].tolist()]
    text = pa.array(rounded + 0.0).cast(STRING)  # adding 0.0 makes minus zero zero
    pointed = pc.if_else(pc.match_substring_regex(text, "[.e]"), text, joined(text, ".0"))
    return pointed if not values.null_count else pc.if_else(pc.is_valid(values), pointed, pa.scalar(None, STRING))


def row_ranges(sizes: npt.NDArray[np.int64], most: int) -> Iterator[tuple[int, int]]:
    """Yield `(first, last)` rows of at most `most` bytes together, or of one that is longer."""
    ends = np.cumsum(sizes)
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + most, side="right")))
        yield first, last
        first = last


@contextlib.contextmanager
def compressed(handle: IO[bytes]) -> Iterator[IO[bytes]]:
    """Write gzip into `handle`: no time and no name in the header, so that the same lines give the same bytes."""
    with gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=handle, mtime=0) as packed:
        yield packed  # type: ignore[misc]


def write_strings(handle: IO[bytes], strings: pa.LargeStringArray) -> None:
    """Write all strings, one behind the other. Raises IntegrityError when one is null: a line would be missing."""
    if strings.null_count:
        raise IntegrityError(f"{strings.null_count} lines of an export are null; this is a bug: please report it")
    if len(strings):
        _, offsets, data = strings.buffers()
        bounds = np.frombuffer(offsets, np.int64)[strings.offset : strings.offset + len(strings) + 1]
        handle.write(memoryview(data)[int(bounds[0]) : int(bounds[-1])])
