"""Cutting a byte stream into blocks of whole lines, in one pass and with bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from olmo_core.documents.schema import RAW_BYTES
from olmo_core.kernels.json_decoding import PADDING

Fill = Callable[[memoryview], int]
"""Writes the next bytes of a stream into a buffer; returns how many, 0 at the end."""

BLOCK_BYTES = 4 << 20
"""What is read at once: hashing, scanning and decoding then find it in the cache of the core."""
_BOM = b"\xef\xbb\xbf"
_LINE_FEED = 0x0A


class Block(NamedTuple):
    """Whole lines, the last one with a line feed even if the file's last line has none."""

    data: npt.NDArray[np.uint8]
    """Holds the lines, and at least `PADDING` bytes more. Written over by the next block."""
    size: int
    offset: int
    """Where the block begins in the decompressed file."""
    ended: bool
    """False when the last line's line feed is not in the file."""
    cut_from: int
    """Bytes of the block's only line, of which just the first are here; 0 for whole lines."""


def line_blocks(fill: Fill, most: int, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """Yield the lines of a stream (they end with a line feed and nothing else), as many at once as fit into a block.

    A longer line is a block of its own; the buffer grows for it. One that exceeds `most` bytes may come cut: it is never
    held as a whole when it is much longer. A byte order mark at the beginning is passed over.
    """
    memory = bytearray(block_bytes + PADDING)
    filled = offset = dropped = 0
    while True:
        if filled + PADDING >= len(memory):
            memory = memory[:filled] + bytearray(2 * len(memory) - filled)
        with memoryview(memory) as view:
            count = fill(view[filled : len(memory) - PADDING])
        if not count:
            break
        if offset == 0 and filled < len(_BOM) <= filled + count and memory.startswith(_BOM):
            memory = memory[len(_BOM) :] + bytearray(len(_BOM))
            offset, filled, count = len(_BOM), 0, filled + count - len(_BOM)
        if dropped:
            stop = memory.find(b"\n", filled, filled + count)
            if stop < 0:
                dropped += count
                continue
            rest = memory[stop + 1 : filled + count]
            memory[filled] = _LINE_FEED
            yield Block(np.frombuffer(memory, np.uint8), filled + 1, offset, True, dropped + stop)
            offset += dropped + stop + 1
            memory[: len(rest)] = rest
            filled, count, dropped = 0, len(rest), 0
        end = memory.rfind(b"\n", filled, filled + count) + 1
        filled += count
        if end:
            yield Block(np.frombuffer(memory, np.uint8), end, offset, True, 0)
            memory[: filled - end] = memory[end:filled]
            filled -= end
            offset += end
        if filled > most:
            kept = min(filled, RAW_BYTES)
            dropped, filled = filled - kept, kept
    if filled:
        memory[filled] = _LINE_FEED
        yield Block(np.frombuffer(memory, np.uint8), filled + 1, offset, False, filled + dropped if dropped else 0)
