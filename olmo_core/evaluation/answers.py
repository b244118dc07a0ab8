"""Reading an answer out of generated text."""

from __future__ import annotations

import re

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_NUMBER = re.compile(r"(?:(?<![\w)])-)?(?:\d+(?:\.\d+)?|\.\d+)")


def last_number(text: str) -> str | None:
    """The last number in a text, without thousands separators; None where there is none.

    As open-instruct's and OLMES's GSM8K, with three faults of theirs left out: `1,2` is two numbers; a minus sign before
    a whole number counts (but not one between two numbers, `7-2`); and nothing else is taken off, so that 1.8 is not 18.
    """
    found = _NUMBER.findall(_THOUSANDS.sub("", text))
    return found[-1] if found else None
