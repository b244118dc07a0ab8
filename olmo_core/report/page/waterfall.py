"""The waterfall: what each stage took away and why, as bars over the whole corpus and by source, and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from olmo_core.report.page.elements import bar, count, fold, share, size, table, text
from olmo_core.report.page.facts import Facts
from olmo_core.report.waterfall import WaterfallLine

MOST_REASONS = 16
"""Reasons of one stage that have a bar of their own in the picture of all sources."""

MOST_SOURCES = 100
"""With more, sources are in the table only."""

_UNITS = (("documents", "ud"), ("bytes", "ub"), ("tokens", "ut"))
_TITLES = {
    "documents": "Reading",
    "selection": "Selection",
    "decontamination": "Decontamination",
    "near-duplicates": "Near duplicates",
    "mixing": "Mixing",
    "packing": "Tokens",
}
Amounts = tuple[int, int, int]
"""Documents, bytes, tokens."""


def body(facts: Facts) -> str:
    """Return the section."""
    # What is held out from training is counted as lost by mixing; its own lines are in the table only.
    apart = set(facts.report.get("held_out", {}))
    training = [line for line in facts.lines if line.source not in apart]
    stages = list(dict.fromkeys(line.stage for line in training))
    rules = {source["read"]["name"]: len(source["rules"]) for source in facts.recipe["sources"]}
    # Sources with many rules first, so that their order is that of the reasons.
    lines = sorted(training, key=lambda line: -rules.get(line.source, 0))
    whole = [(stage, _together([line for line in lines if line.stage == stage])) for stage in stages]
    parts = [
        '<input class="unit" type="radio" name="unit" id="by-documents" checked>'
        '<input class="unit" type="radio" name="unit" id="by-bytes"><input class="unit" type="radio" name="unit" id="by-tokens">\n'
        '<div class="units" role="presentation"><label for="by-documents">documents</label><label for="by-bytes">text</label>'
        '<label for="by-tokens">tokens</label></div>\n<div class="flows">\n',
        _picture(whole),
        _key(),
    ]
    sources = sorted({line.source for line in training} - {"all"})
    if 1 < len(sources) <= MOST_SOURCES:
        for source in sources:
            own = [
                (stage, [line for line in training if (line.stage, line.source) == (stage, source)]) for stage in stages
            ]
            counted = [
                (stage, [(line.what, line.sign, _amounts(line)) for line in lines]) for stage, lines in own if lines
            ]
            left = counted[-1][1][-1][2][0]
            came = counted[0][1][0][2][0]
            parts.append(
                fold(
                    f"<b>{text(source)}</b>: {count(left)} of {count(came)} documents pass selection", _picture(counted)
                )
            )
    parts.append("</div>\n" + fold("All numbers as a table", _table(facts.lines)))
    return "".join(parts)


def _amounts(line: WaterfallLine) -> Amounts:
    return line.documents, line.bytes, line.tokens


def _together(lines: Sequence[WaterfallLine]) -> list[tuple[str, str, Amounts]]:
    """Return a stage's lines with the sources added up: in, gains and losses with the rarest losses in one, kept."""
    sums: dict[tuple[str, str], Amounts] = {}
    for line in lines:
        before = sums.get((line.what, line.sign), (0, 0, 0))
        sums[line.what, line.sign] = tuple(a + b for a, b in zip(before, _amounts(line), strict=True))  # type: ignore[assignment]
    ends = [(what, sign, amounts) for (what, sign), amounts in sums.items() if not sign]
    changes = [(what, sign, amounts) for (what, sign), amounts in sums.items() if sign]
    if len(changes) > MOST_REASONS:
        often = sorted(changes, key=lambda c: -c[2][0])[: MOST_REASONS - 1]
        rest = [c for c in changes if c not in often]
        added = tuple(sum(c[2][i] for c in rest) for i in range(3))
        changes = [c for c in changes if c in often] + [(f"{len(rest)} more reasons", "-", added)]  # type: ignore[list-item]
    return [*(e for e in ends if e[0] == "in"), *changes, *(e for e in ends if e[0] != "in")]


def _picture(stages: Sequence[tuple[str, Sequence[tuple[str, str, Amounts]]]]) -> str:
    """Return the bars: what is there in full length, what goes where it is missing from then on."""
    largest: list[int] = [1, 1, 1]
    for _, lines in stages:
        came = _came(lines)
        gained = [sum(a[i] for _, s, a in lines if s == "+") for i in range(3)]
        largest = [max(m, c + g) for m, c, g in zip(largest, came, gained, strict=True)]
    rows = []
    for number, (stage, lines) in enumerate(stages):
        came = _came(lines)
        level = list(came)
        title = _TITLES.get(stage, stage)
        for what, sign, amounts in lines:
            if what == "in":
                if number == 0:
                    rows.append(_row("stage", "Records", _bars((0, 0, 0), amounts, largest, "k"), "", amounts, None))
                rows.append(f'<tr class="stage"><td colspan="3">{text(title)}</td><td></td></tr>\n' if number else "")
                continue
            if what == "kept":
                if number == 0 and len(lines) == 2:
                    continue  # nothing was lost in reading
                label = "kept" if stage != "packing" else "packed"
                rows.append(
                    _row(
                        "kept",
                        label,
                        _bars((0, 0, 0), amounts, largest, "k"),
                        "",
                        amounts,
                        came if stage != "packing" else None,
                    )
                )
                continue
            low = [x - (a if sign == "-" else 0) for x, a in zip(level, amounts, strict=True)]
            kind = "l" if sign == "-" else "g"
            rows.append(_row("reason", what.replace("_", " "), _bars(low, amounts, largest, kind), sign, amounts, came))
            level = [x + (-a if sign == "-" else a) for x, a in zip(level, amounts, strict=True)]
    return f'<table class="flow"><tbody>\n{"".join(rows)}</tbody></table>\n'


def _came(lines: Sequence[tuple[str, str, Amounts]]) -> Amounts:
    """Return what came into a stage; for one that only keeps, that is what it kept."""
    return next((amounts for what, _, amounts in lines if what == "in"), lines[-1][2])


def _bars(low: Sequence[int], amounts: Amounts, largest: Sequence[int], kind: str) -> str:
    found = []
    for start, amount, most, (_, unit) in zip(low, amounts, largest, _UNITS, strict=True):
        if amount:
            left, width = 100 * max(start, 0) / most, 100 * amount / most
            found.append(f'<i class="{kind} {unit}" style="left:{min(left, 99.8):.3f}%;width:{width:.3f}%"></i>')
    return f'<span class="track">{"".join(found)}</span>'


def _row(kind: str, label: str, bars: str, sign: str, amounts: Amounts, of: Amounts | None) -> str:
    sign = sign.replace("-", "−")
    shown = (f"{amounts[0]:,}", size(amounts[1]), count(amounts[2]))
    numbers = "".join(
        f'<span class="{u}">{sign + n if a or not sign else "–"}</span>'
        for n, a, (_, u) in zip(shown, amounts, _UNITS, strict=True)
    )
    shares = "".join(
        f'<span class="{u}">{share(a, w)}</span>' for a, w, (_, u) in zip(amounts, of or (), _UNITS, strict=False)
    )
    return f'<tr class="{kind}"><td>{text(label)}</td><td>{bars}</td><td class="n">{numbers}</td><td class="n dim">{shares}</td></tr>\n'


def _key() -> str:
    boxes = (
        ("var(--kept)", "still there"),
        ("var(--lost)", "dropped by this stage, for this reason"),
        ("var(--gain)", "added"),
    )
    shown = "".join(f'<span><i class="box" style="background:{colour}"></i>{what}</span>' for colour, what in boxes)
    return (
        f'<p class="key">{shown}</p><p class="dim"><small>Percentages are of what came into the stage. Bytes are those of the '
        "original text until mixing cuts and masks; tokens are estimated from bytes, except those packed.</small></p>\n"
    )


def _table(lines: Sequence[WaterfallLine]) -> str:
    came = {(line.stage, line.source): line.documents for line in lines if line.what == "in"}
    rows = []
    for line in lines:
        whole, sign = came.get((line.stage, line.source), 0), line.sign.replace("-", "−")
        first = line.what == "in" or not whole
        about = "" if line.stage == "packing" else "~"
        rows.append(
            (
                f"<b>{text(line.stage)}/{text(line.source)}</b>" if first else "",
                text(line.what),
                bar(line.documents, whole, "l" if sign == "−" else "k") if whole and line.what != "in" else "",
                f"{sign}{line.documents:,}",
                f"{sign}{line.bytes:,}",
                f"{about}{sign}{line.tokens:,}",
                share(line.documents, whole) if whole and line.what != "in" else "",
            )
        )
    return table(("stage", "what", "", "documents", "bytes", "tokens", "of in"), rows, left=3, kind="numbers")
