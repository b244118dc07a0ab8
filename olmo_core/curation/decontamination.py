"""Which documents hold evaluation data: Paloma's paragraph rule, and word n-grams; exact, nothing that is there is missed.

Paragraph rule (Magnusson et al. 2023, Paloma, section 3.1; `configs/dolma-v1_5/decontamination` of the Dolma toolkit):
paragraphs of evaluation items with 13 words or more by UAX 29 that are not all punctuation; a document with any of
them is removed whole, and so is one that equals a whole item. n-gram rule (Brown et al. 2020, GPT-3, appendix C; the
same in lm-eval's janitor): an item is contaminated by any 13-gram, ignoring case, punctuation and spacing; an item of
8 to 12 words by all of it. `min_overlap` asks for a share of the item's n-grams instead (PaLM: 0.7 of its 8-grams;
Tulu 3: half of an item's tokens in matching 8-grams).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from olmo_core.curation.evaluation_sets import EvaluationSet
from olmo_core.errors import RecipeError
from olmo_core.kernels.ngram_matches import RING

VERSION = 1
PALOMA_TARGET = 0.001
"""Share of documents that Paloma's runbook aims to stay below; above it they took a smaller evaluation suite."""

RuleName = Literal["document", "paragraph", "ngrams"]
RULES: tuple[RuleName, ...] = get_args(RuleName)
"""In the order in which they are named as the reason."""


@dataclass(frozen=True, kw_only=True)
class ParagraphRule:
    """A document that holds a paragraph of an evaluation item is removed."""

    min_words: int = 13
    """Shorter paragraphs are not looked for; words by UAX 29, punctuation marks included, as the toolkit counts."""
    trim: bool = True
    """White space at the ends of paragraphs does not count (a carriage return at the end of a line, wikitext's spaces);
    False compares every byte between line feeds, as the toolkit does."""
    documents: bool = True
    """Also remove a document that equals a whole item, however short."""


@dataclass(frozen=True, kw_only=True)
class NgramRule:
    """A document that shares word n-grams with an evaluation item is removed."""

    length: int = 13
    """Words of an n-gram (GPT-3: 13; PaLM and Tulu 3: 8)."""
    shortest: int = 8
    """An item with fewer words than `length`, but at least so many, is one n-gram of all its words; shorter ones are not
    looked for (GPT-3's lower bound, against chance)."""
    min_overlap: float | None = None
    """Share of an item's different n-grams that one document must hold, above 0 to 1; None: any n-gram is enough."""


@dataclass(frozen=True, kw_only=True)
class DecontaminationRecipe:
    """Evaluation sets that the corpus shall not contain, and how documents are compared with them."""

    sets: tuple[EvaluationSet, ...]
    paragraphs: ParagraphRule | None = field(default_factory=ParagraphRule)
    """Paloma's paragraph rule; null leaves it out."""
    ngrams: NgramRule | None = field(default_factory=NgramRule)
    """n-gram overlap; null leaves it out."""
    exempt: tuple[str, ...] = ()
    """Sources whose documents stay whatever they hold (Paloma: code). What they hold is found and reported."""
    control: bool = True
    """Plant every item in a document when the index is made, and stop the run when one of them is not found."""

    def __post_init__(self) -> None:
        names = [one.name for one in self.sets]
        if not names or len(set(names)) < len(names):
            raise RecipeError(f"decontamination.sets: name at least one set, each by a name of its own; found {names}")
        on = {name for name in ("paragraphs", "ngrams") if getattr(self, name) is not None}
        for one in self.sets:
            if not on.intersection(one.rules):
                raise RecipeError(
                    f"evaluation set {one.name}: its rules are {', '.join(one.rules)}, "
                    f"but the recipe has {', '.join(sorted(on)) or 'no rule at all'}: nothing would look for it"
                )
        if self.paragraphs and self.paragraphs.min_words < 1:
            raise RecipeError(f"decontamination.paragraphs.min_words {self.paragraphs.min_words}: give at least 1")
        rule = self.ngrams
        if rule and not 1 <= rule.shortest <= rule.length < RING:
            raise RecipeError(
                f"decontamination.ngrams: shortest {rule.shortest} and length {rule.length}: give 1 <= shortest <= length < {RING}"
            )
        if rule and rule.min_overlap is not None and not 0 < rule.min_overlap <= 1:
            raise RecipeError(
                f"decontamination.ngrams.min_overlap {rule.min_overlap}: give a share above 0 to 1, or null for any n-gram"
            )


def check_decontamination(recipe: DecontaminationRecipe | None, sources: Sequence[str]) -> None:
    """Raise RecipeError for names that do not fit to the sources of a corpus."""
    if recipe is None:
        return
    for one in recipe.sets:
        if one.name in sources:
            raise RecipeError(f"evaluation set {one.name!r} is named like a source; give one of them another name")
    for name in recipe.exempt:
        if name not in sources:
            raise RecipeError(f"decontamination.exempt: there is no source {name!r}; there are: {', '.join(sources)}")
