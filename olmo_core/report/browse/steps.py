"""The step inspector: the documents of some steps of each run, as its newest checkpoint tells.

A static page cannot hold every step of a run: it holds the first, the last and some between, and says how to see others.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.errors import OlmoError
from olmo_core.report.browse.catalog import Catalog, Entry
from olmo_core.report.browse.shell import Page
from olmo_core.report.excerpt import boundary
from olmo_core.report.page.elements import fold, name, size, text
from olmo_core.train.inspection import Inspection, Piece

_SHOWN = 360
"""Bytes of each document's text."""


@lru_cache(maxsize=2)
def inspected(catalog: Catalog) -> list[Entry]:
    """Return the checkpoint of the highest step of each run, of the newest runs."""
    newest: dict[str, Entry] = {}
    for one in catalog.kind("checkpoint"):
        run = str(one.recipe.get("run"))
        if one.ref in catalog.paged and (run not in newest or _step(one) > _step(newest[run])):
            newest[run] = one
    trained = [one for one in newest.values() if _step(one) > 0]
    return sorted(trained, key=lambda one: one.ended, reverse=True)[: catalog.limits.runs]


def _step(entry: Entry) -> int:
    return int(entry.recipe.get("step", 0))


def path_of(ref: ArtifactRef) -> str:
    """Return where the steps of a checkpoint are."""
    return f"{ref.address}.steps.html"


def chosen(last: int, most: int) -> list[int]:
    """Return the first and the last step, and some between at equal distances."""
    return sorted({int(step) for step in np.linspace(1, last, min(last, most)).round()})


def page_of(catalog: Catalog, entry: Entry) -> Page:
    """Return the page of a checkpoint's steps. What cannot be told (its tokens are gone) is said on it."""
    page = Page(
        catalog=catalog,
        path=path_of(entry.ref),
        title=f"Steps of {entry.ref.name}",
        small="Step inspector",
        place="runs.html",
    )
    page.crumbs = (("Runs", "runs.html"), (entry.ref.address, catalog.page(entry.ref)))
    last, limits = _step(entry), catalog.limits
    steps = chosen(last, limits.steps)
    page.lead = (
        f"<p>The documents that a step was trained on, of {len(steps):,} of the {last:,} steps up to {page.artifact(entry.ref)}, at most "
        f"{limits.documents:,} pieces each, with the text from about where the piece begins. Any other step: <code>olmo inspect step {name(entry.ref.name)} N</code>; the steps that saw a "
        "document: <code>olmo inspect document ID</code>.</p>\n"
    )
    try:
        inspection = Inspection(catalog.store, catalog.store.manifest(entry.ref))
        for step, found in inspection.texts(steps, limits.documents + 1).items():
            page.add(f"step-{step}", f"Step {step:,}", _documents(found, limits.documents))
    except OlmoError as error:
        page.sections = []
        page.add("gone", "Not to be told", f'<p class="note">{text(error)}</p>\n')
    return page


def _documents(found: Sequence[tuple[Piece, str]], most: int) -> str:
    rows = sorted({piece.row for piece, _ in found[:most]})
    parts = []
    for row in rows:
        own = [(piece, shown) for piece, shown in found[:most] if piece.row == row]
        tokens = sum(piece.tokens for piece, _ in own)
        title = f"<b>Row {row}</b>: {len(own)} {'piece' if len(own) == 1 else 'pieces'}, {tokens:,} tokens"
        parts.append(fold(title, "".join(_piece(piece, shown) for piece, shown in own), opened=row == rows[0]))
    more = "<p>More pieces are in this step than this page holds.</p>\n" if len(found) > most else ""
    return "".join(parts) + more


def _piece(piece: Piece, whole: str) -> str:
    who = f"{piece.source}/{piece.id}" if piece.id is not None else piece.source
    part = f"tokens {piece.begins:,} to {piece.begins + piece.tokens:,} of {'?' if piece.length is None else f'{piece.length:,}'}"
    facts = [f"<b>{name(who)}</b>", f"position {piece.position:,}", part]
    if piece.copy:
        facts.append(f"copy {piece.copy}")
    if piece.url:
        facts.append(f"<span>{name(piece.url)}</span>")
    shown = f'<div class="text" dir="auto">{_text(piece, whole)}</div>\n' if whole else ""
    return f'<article>\n<div class="facts">{", ".join(facts)}</div>\n{shown}</article>\n'


def _text(piece: Piece, whole: str) -> str:
    """Return the text from about where the piece begins: nobody has noted which bytes a token is of."""
    raw = whole.encode()
    begins = boundary(raw, int(len(raw) * piece.begins / piece.length)) if piece.length else 0
    end = boundary(raw, begins + _SHOWN)
    before = f'<span class="gap">… about {size(begins)} before …</span>' if begins else ""
    after = f'<span class="gap">… {size(len(raw) - end)} more …</span>' if end < len(raw) else ""
    return f"{before}{text(raw[begins:end].decode())}{after}"
