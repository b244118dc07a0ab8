"""Pieces of HTML: text made safe and visible, numbers, tables, parts to fold open."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

from olmo_core.report.markdown import count, size

_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufdd0-\ufdef\ufffe\uffff]"
)
"""Control characters, line separators, marks that turn the direction of writing, characters that are none: all that
would show as nothing or change how the page around it is read. Joiners stay: emoji and several scripts need them."""


def text(value: Any) -> str:
    """Return a text as HTML: markup is text, and what would not be seen is named (NUL as its symbol, others by number)."""
    return _UNSEEN.sub(_named, html.escape(str(value), quote=True))


def _named(match: re.Match[str]) -> str:
    code = ord(match[0])
    shown = chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else f"U+{code:04X}"
    return f'<i class="c">{shown}</i>'


def attribute(value: Any) -> str:
    """Return a text as the value of an attribute, between double quotes."""
    return _UNSEEN.sub(lambda m: f"U+{ord(m[0]):04X}", html.escape(str(value), quote=True))


def name(value: Any, most: int = 160) -> str:
    """Return an id, address or name as HTML: apart from the direction of writing around it, the middle of a long one left out."""
    whole = str(value)
    cut = whole if len(whole) <= most else f"{whole[: most * 2 // 3]}…{whole[-most // 3 :]}"
    return f"<bdi>{text(cut)}</bdi>"


def slug(value: str) -> str:
    """Return a name for an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", value.lower()).strip("-") or "x"


def share(part: float, whole: float) -> str:
    """Return a fraction as a percentage with enough digits to tell it from 0% and 100%."""
    if not whole:
        return "–"
    value = 100 * part / whole
    if part and value < 0.01:
        return "<0.01%"
    if part != whole and value > 99.99:
        return ">99.99%"
    return f"{value:.2f}%" if value < 1 or 99 < value < 100 else f"{value:.1f}%"


def value(number: Any) -> str:
    """Return a measured value as people read it."""
    if isinstance(number, bool) or number is None:
        return {True: "true", False: "false", None: "no value"}[number]
    if isinstance(number, float) and not (number.is_integer() and abs(number) < 1e15):
        return f"{number:.4g}"
    return f"{number:,.0f}" if isinstance(number, int | float) else str(number)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1, kind: str = "") -> str:
    """Return a table of cells that are HTML already; all columns but the first `left` are numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{'' if i < left else ' class=n'}>{cell}</{tag}>" for i, cell in enumerate(row))

    body = "".join(f"<tr>{cells(row, 'td')}</tr>\n" for row in rows)
    extra = f' class="{kind}"' if kind else ""
    return f'<div class="wide"><table{extra}><thead><tr>{cells(header, "th")}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'


def fold(summary: str, body: str, *, opened: bool = False, kind: str = "") -> str:
    """Return a part that can be folded open; both arguments are HTML."""
    extra = f' class="{kind}"' if kind else ""
    return f"<details{extra}{' open' if opened else ''}><summary>{summary}</summary>\n{body}</details>\n"


def bar(part: float, whole: float, kind: str = "") -> str:
    """Return a horizontal bar whose length is a share of the cell."""
    width = 100 * part / whole if whole else 0.0
    return f'<span class="track"><i class="{kind or "k"}" style="width:{width:.3f}%"></i></span>'


__all__ = ["attribute", "bar", "count", "fold", "name", "share", "size", "slug", "table", "text", "value"]
