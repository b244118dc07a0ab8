"""Samples: documents that were dropped, repeated or kept, with what was found in them marked in the text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from olmo_core.report.differences import Run, compare
from olmo_core.report.examples import Example, Pair
from olmo_core.report.excerpt import Excerpt, Span, segments
from olmo_core.report.page.elements import attribute, fold, name, size, text, value
from olmo_core.report.page.facts import Facts

_CONTEXT = 14
"""Words of an equal run that are shown on each side of a difference."""
_MOST_WORDS = 220
"""Words of each side of a pair."""
_KEY = (
    ("pii", "personal data"),
    ("mask", "what stands in its place in the corpus"),
    ("cut", "cut out by mixing"),
    ("word", "hit of the word list"),
    ("sentence", "sentence of a classifier"),
    ("line", "line with a C4 fault"),
)


def body(facts: Facts) -> str:
    """Return the section."""
    seen = {s.kind for e in (*facts.dropped, *facts.kept) for s in e.excerpt.spans}
    key = "".join(f'<span><mark class="{kind}">Abc</mark> {what}</span>' for kind, what in _KEY if kind in seen)
    parts = [
        "<p>A few documents of each kind. Dropped ones and pairs stand here as they came in, personal data included; kept ones as they "
        f'went into the corpus. Long texts are cut to what tells most.</p>\n<p class="key">{key}</p>\n',
        "<h3>Dropped by rules</h3>\n",
        *(_group(facts, source, list(some)) for source, some in groupby(facts.dropped, key=lambda e: e.source)),
        "" if facts.dropped else "<p>None.</p>\n",
        "<h3>Near duplicates</h3>\n",
        *(_pair(pair, opened=number == 0) for number, pair in enumerate(facts.duplicates)),
        "" if facts.duplicates else "<p>None.</p>\n",
        "<h3>Kept</h3>\n",
        *(
            fold(f"<b>{name(source)}</b>", "".join(map(article, some)), opened=number == 0)
            for number, (source, some) in enumerate(groupby(facts.kept, key=lambda e: e.source))
        ),
        "" if facts.kept else "<p>None.</p>\n",
    ]
    return "".join(parts)


def _group(facts: Facts, source: str, some: Sequence[Example]) -> str:
    ledger = facts.manifests[f"selection/{source}"].ledger
    parts = []
    for number, (reason, own) in enumerate(groupby(some, key=lambda e: e.reason)):
        shown = list(own)
        dropped = ledger.dropped[reason].documents if reason in ledger.dropped else len(shown)
        title = f'{name(source)}: <b>{text(reason.replace("_", " "))}</b> <span class="dim">{len(shown)} of {dropped:,}</span>'
        parts.append(fold(title, "".join(map(article, shown)), opened=number == 0 and some[0] is facts.dropped[0]))
    return "".join(parts)


def article(one: Example) -> str:
    """Return one document: what is known of it, and its excerpt."""
    known = ", ".join(f"{text(k)} = <b>{text(value(v))}</b>" for k, v in one.facts.items())
    return (
        f'<article>\n<div class="facts">{name(f"{one.source}/{one.id}")}, {size(one.excerpt.size)}; {known}</div>\n'
        f'<div class="text" dir="auto">{marked(one.excerpt)}</div>\n</article>\n'
    )


def marked(shown: Excerpt) -> str:
    """Return an excerpt with its spans marked, as HTML; where spans overlap, the text has the marks of all."""
    parts = []
    end = 0
    for start, piece in shown.pieces:
        parts.append(_gap(start - end))
        end = start + len(piece)
        done: set[Span] = set()
        for raw, covering in segments(start, piece, shown.spans):
            parts.append(_segment(raw, covering, done))
    parts.append(_gap(shown.size - end))
    return "".join(parts)


def _gap(left_out: int) -> str:
    return f'<span class="gap">… {size(left_out)} left out …</span>' if left_out else ""


def _segment(raw: bytes, covering: Sequence[Span], done: set[Span]) -> str:
    masks = [s for s in covering if s.kind == "mask"]
    if masks:
        fresh = [s for s in masks if s not in done]
        done.update(masks)
        return "".join(f'<mark class="mask" title="masked">{text(s.note)}</mark>' for s in fresh)
    shown = text(raw.decode("utf-8", "replace"))
    if not covering:
        return shown
    covering = sorted(covering, key=lambda s: s.kind == "line")
    kinds = " ".join(dict.fromkeys(s.kind for s in covering))
    notes = ", ".join(dict.fromkeys(s.note for s in covering if s.note))
    return f'<mark class="{kinds}" title="{attribute(notes)}">{shown}</mark>'


def _pair(pair: Pair, *, opened: bool) -> str:
    one = pair.dropped
    title = (
        f"<b>{text(one.reason.replace('_', ' '))}</b>, Jaccard {one.facts['jaccard']:.3f}: {name(f'{one.source}/{one.id}', 80)} "
        f'<span class="dim">repeats {name(pair.kept_name, 80)}</span>'
    )
    runs = compare(pair.left, pair.right)
    sides = [
        f'<div><div class="facts">{what}: {name(who)}</div>\n<div class="text" dir="auto">{"".join(_words(runs, side))}</div></div>\n'
        for side, what, who in (("left", "dropped", f"{one.source}/{one.id}"), ("right", "kept", pair.kept_name))
    ]
    return fold(title, f'<div class="sides">\n{"".join(sides)}</div>\n', opened=opened)


def _words(runs: Sequence[Run], side: str) -> Iterator[str]:
    """Yield one side of two compared texts: differences marked, most of what is equal left out."""
    tag = "del" if side == "left" else "ins"
    room = _MOST_WORDS
    for number, run in enumerate(runs):
        words: tuple[str, ...] = getattr(run, side)
        if room <= 0:
            left = sum(len(getattr(r, side)) for r in runs[number:])
            yield f'<span class="gap">… {left:,} more words …</span>' if left else ""
            return
        if run.same:
            head = 0 if number == 0 and len(runs) > 1 else _CONTEXT
            tail = 0 if number == len(runs) - 1 and len(runs) > 1 else _CONTEXT
            if len(runs) == 1:
                head, tail = 60, 0
            if len(words) > head + tail + 4:
                yield text("".join(words[:head]))
                yield f'<span class="gap">… {len(words) - head - tail:,} words the same …</span>'
                yield text("".join(words[len(words) - tail :]))
                room -= head + tail
                continue
            yield text("".join(words))
        elif words:
            shown = words[: max(room, 20)]
            rest = len(words) - len(shown)
            yield f"<{tag}>{text(''.join(shown))}</{tag}>"
            yield f'<span class="gap">… {rest:,} more words …</span>' if rest else ""
        room -= len(words)
