"""What the sections of the page are made from, and what a section is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.report.examples import BadRecord, Example, Pair
from olmo_core.report.waterfall import WaterfallLine


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything about a corpus that its page shows."""

    name: str
    recipe: Mapping[str, Any]
    """The whole recipe in canonical form, without the places of files."""
    report: Mapping[str, Any]
    """What report.json holds."""
    manifests: Mapping[str, Manifest]
    """By `stage/source`."""
    lines: Sequence[WaterfallLine]
    dropped: Sequence[Example]
    duplicates: Sequence[Pair]
    kept: Sequence[Example]
    contaminated: Sequence[Example]
    """Documents that held evaluation data."""
    quarantined: Sequence[BadRecord]
    meanings: Mapping[str, str]
    """What columns hold, by name, where it is known."""

    @property
    def sources(self) -> list[str]:
        """The names of the sources, in the order of the recipe."""
        return [source["read"]["name"] for source in self.recipe["sources"]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page. A new one is a module with such a function, named in `document.SECTIONS`."""

    anchor: str
    """Its id in the page's addresses."""
    title: str
    body: Callable[[Facts], str]
    """Returns HTML that is safe to put into the page (`elements.text` makes texts so); nothing: the section is left out."""
