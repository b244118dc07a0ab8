"""The recipe of a corpus: sources, tags, rules, near duplicates, mixture and tokens; one YAML file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from olmo_core.artifacts.ref import check_name
from olmo_core.curation.columns import check_columns
from olmo_core.curation.content import ContentRecipe
from olmo_core.curation.decontamination import DecontaminationRecipe, check_decontamination
from olmo_core.curation.language import LanguageRecipe
from olmo_core.curation.near_duplicates import NearDuplicateRecipe
from olmo_core.curation.pii import PiiRecipe
from olmo_core.curation.quality import QualityRecipe
from olmo_core.curation.rules import Rule
from olmo_core.curation.splits import HeldOut, check_held_out
from olmo_core.curation.takedown import COPY, NAME, TakedownRecipe
from olmo_core.curation.variants import MARK, variants_of
from olmo_core.documents.environment import EnvironmentSource
from olmo_core.documents.reader import Source
from olmo_core.errors import RecipeError
from olmo_core.recipe import LATER, beside, from_mapping, read_yaml, recipe_file

LANGUAGE_COLUMN = "target_score"
"""The column that the floor and the language rule look at."""


@dataclass(frozen=True, kw_only=True)
class SourceRecipe:
    """One source and what is asked of its documents."""

    read: Source
    """Where its documents come from, its name and its priority; told apart by the field `kind`."""
    rules: tuple[Rule, ...] = ()
    """A document is dropped when one of these fails; the first one in this order is its reason. Keep chain order."""
    repeat: float = 1.0
    """How often each document goes into the corpus when no `share` is given; 0.5 takes half of them, 2 takes all twice."""
    share: float | None = None
    """Share of the corpus's tokens, 0 to 1; needs `mixing.total_tokens`. Overrides `repeat`."""

    @property
    def name(self) -> str:
        """The source's name; appears in task names, artifact names and documents."""
        return self.read.name


@dataclass(frozen=True, kw_only=True)
class RemoveSpans:
    """Spans of the text that mixing cuts out."""

    column: str
    """A span column of the quality or content stage, e.g. `toxic_spans`."""
    at_least: float | None = None
    """Cut spans with at least this score; None cuts all. Dolma cuts toxic sentences at 0.4."""


@dataclass(frozen=True, kw_only=True)
class MixingRecipe:
    """How survivors become the corpus."""

    mask_pii: bool = True
    """Replace e-mail addresses, phone numbers and IP addresses by their tokens."""
    remove: tuple[RemoveSpans, ...] = ()
    """Spans to cut out before anything else; removal beats mask."""
    min_bytes: int = 1
    """A text with fewer bytes than this (after removal, white space stripped) is dropped as too_short."""
    total_tokens: int | None = None
    """Size of the corpus in tokens, to be divided by the sources' shares; None takes what `repeat` gives."""
    sample: float = 0.01
    """Fraction of documents, chosen by hash, whose tokens are counted to know tokens per byte; at least 0.01."""


@dataclass(frozen=True, kw_only=True)
class TokensRecipe:
    """How the corpus becomes tokens."""

    tokenizer: str = "olmo-tokenizer"
    """Asset name of a tokenizer.json."""
    shard_tokens: int = 1 << 28
    """Largest number of tokens in one memory-mapped shard, about; 2^28 are 512 MiB of uint16."""


@dataclass(frozen=True, kw_only=True)
class CorpusRecipe:
    """Everything that decides what a corpus and its tokens contain."""

    name: str
    """Name of the corpus and token artifacts."""
    sources: tuple[SourceRecipe, ...]
    content: ContentRecipe
    """Toxic text by classifiers, or by a word list; no default, so that a recipe without a model says `kind: lexicon`."""
    seed: int = 3920
    """Seed of all hashes that sample or shuffle; 3920 is what Dolma v1.6 was tokenized with."""
    shard_bytes: int = 64_000_000
    """Text in one shard, about, in bytes: 64 to 128 MB in earnest."""
    quarantine_limit: float = 0.001
    """Largest fraction of malformed records in a source; above it the stage fails. Does not decide what comes out."""
    floor: float = 0.2
    """Documents of a lower language score are not tagged further (where the source has a language rule)."""
    sample: float = 1.0
    """Fraction of each source's documents to take, by hash of the id: for a trial."""
    limit: int | None = None
    """Documents of each source to take at most, about: for a trial; None takes all."""
    language: LanguageRecipe = field(default_factory=LanguageRecipe)
    quality: QualityRecipe = field(default_factory=QualityRecipe)
    pii: PiiRecipe = field(default_factory=PiiRecipe)
    near_duplicates: NearDuplicateRecipe = field(default_factory=NearDuplicateRecipe)
    mixing: MixingRecipe = field(default_factory=MixingRecipe)
    tokens: TokensRecipe = field(default_factory=TokensRecipe)
    decontamination: DecontaminationRecipe | None = field(default=None, metadata=LATER)
    """Evaluation sets that the corpus shall not contain; docs/decontamination.md."""
    held_out: tuple[HeldOut, ...] = field(default=(), metadata=LATER)
    """Splits that nothing is trained on, chosen by hash of source and id; add further ones at the end. docs/held-out.md."""
    takedown: TakedownRecipe | None = field(default=None, metadata=LATER)
    """Lists of documents to leave out on request, with their copies. docs/takedown.md."""

    def __post_init__(self) -> None:
        """Raise RecipeError for combinations that no type can rule out."""
        check_name(self.name, "corpus name")
        if not self.sources:
            raise RecipeError(f"recipe {self.name!r} has no sources; name at least one")
        names = [check_name(s.name, "source name") for s in self.sources]
        if len(set(names)) != len(names):
            raise RecipeError(f"recipe {self.name!r}: two sources have the same name: {', '.join(names)}")
        if not 0 <= self.floor <= 1:
            raise RecipeError(f"recipe floor {self.floor}: give a language score between 0 and 1")
        if self.shard_bytes < 1 or self.tokens.shard_tokens < 1:
            raise RecipeError("recipe shard_bytes and tokens.shard_tokens must be at least 1")
        if self.mixing.sample < 0.01 or self.mixing.sample > 1:
            raise RecipeError(f"recipe mixing.sample {self.mixing.sample}: give 0.01 to 1")
        if not 0 < self.sample <= 1 or (self.limit is not None and self.limit < 1):
            raise RecipeError(
                f"recipe sample {self.sample} and limit {self.limit}: give a fraction above 0 to 1, and at least 1 document"
            )
        check_decontamination(self.decontamination, names)
        check_held_out(self.held_out, names)
        if self.takedown is not None:
            self._check_takedown()
        self._check_shares()
        check_columns(self)

    def _check_shares(self) -> None:
        shares = [s.share for s in self.sources if s.share is not None]
        if shares and self.mixing.total_tokens is None:
            raise RecipeError("a source has a share: say how many tokens the corpus shall have in mixing.total_tokens")
        if self.mixing.total_tokens is not None and (len(shares) < len(self.sources) or abs(sum(shares) - 1) > 1e-6):
            raise RecipeError(
                f"mixing.total_tokens needs a share for every source, adding up to 1; they add up to {sum(shares):g}"
            )
        for source in self.sources:
            if source.repeat < 0 or (source.share is not None and not 0 <= source.share <= 1):
                raise RecipeError(f"source {source.name}: repeat and share cannot be negative, share at most 1")

    def _check_takedown(self) -> None:
        """Names that the takedown list uses are not free for sources and rules."""
        for one in self.decontamination.sets if self.decontamination else ():
            if one.name == NAME:
                raise RecipeError(
                    f"evaluation set {NAME!r}: with a takedown list that is the name of its inventory; choose another"
                )
        for source in self.sources:
            if source.name == NAME:
                raise RecipeError(
                    f"source {NAME!r}: with a takedown list that is the name of its inventory; choose another"
                )
            for rule in source.rules:
                if rule.name in (NAME, COPY):
                    raise RecipeError(
                        f"source {source.name}: rule {rule.name!r}: takedown gives that reason; rename the rule"
                    )

    def floor_of(self, source: SourceRecipe) -> float | None:
        """Return the language score below which a source's documents are not tagged, None when it has no language rule.

        A language rule below the declared floor lowers it, which rebuilds the tags.
        """
        limits = [r.value for r in source.rules if _is_language_rule(r)]
        return min(self.floor, *limits) if limits else None


def _is_language_rule(rule: Rule) -> bool:
    return rule.column == LANGUAGE_COLUMN and rule.drop_if in ("<", "<=")


RECIPES = Path(__file__).resolve().parents[2] / "deployments" / "recipes"


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """The few things worth changing without writing a recipe file; each replaces the recipe's own value."""

    name: str | None = None
    """Another name for the corpus and token artifacts."""
    seed: int | None = None
    """Another seed for sampling and shuffling."""
    language_threshold: float | None = None
    """Language score below which a document is dropped, for every source that has a language rule (0 to 1)."""
    max_bytes: int | None = None
    """Largest number of bytes of text of all environment sources together, divided as in the recipe."""
    sample: float | None = None
    """Fraction of each source's documents to take, for a trial; the artifacts are then named `{name}-trial`."""
    limit: int | None = None
    """Documents of each source to take at most, for a trial; the artifacts are then named `{name}-trial`."""
    near_duplicate_jaccard: float | None = None
    """Jaccard similarity from which on two documents are near duplicates (0 to 1)."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}


def load_recipe(name_or_path: str, overrides: Overrides | None = None, *, folder: Path = RECIPES) -> CorpusRecipe:
    """Return the recipe of a name (`deployments/recipes/{name}.yaml`) or of a YAML file's path, with overrides applied.

    `FILE.yaml#VARIANT` is a variant that the file names (olmo_core/curation/variants.py).
    Raises RecipeError for a name or file that is not there (listing the names), and for what is wrong inside.
    """
    file, mark, variant = name_or_path.partition(MARK)
    path = recipe_file(file, folder)
    data = _values(path)
    if mark:
        named = variants_of(data, path.name)
        data = named.values(variant, _values(recipe_file(beside(path, named.base), folder)))
    return apply_overrides(from_mapping(CorpusRecipe, data, path.name), overrides or Overrides())


def _values(path: Path) -> Any:
    data = read_yaml(path)
    return {key: value for key, value in data.items() if not key.startswith("x-")} if isinstance(data, dict) else data


def apply_overrides(recipe: CorpusRecipe, overrides: Overrides) -> CorpusRecipe:
    """Return the recipe with the overrides that are set."""
    plain = ("name", "seed", "sample", "limit")
    changes: dict[str, Any] = {k: getattr(overrides, k) for k in plain if getattr(overrides, k) is not None}
    if overrides.name is None and ("sample" in changes or "limit" in changes):
        changes["name"] = f"{recipe.name}-trial"
    sources = recipe.sources
    if overrides.language_threshold is not None:
        sources = _with_threshold(sources, overrides.language_threshold)
    if overrides.max_bytes is not None:
        sources = _capped(sources, overrides.max_bytes)
    if overrides.near_duplicate_jaccard is not None:
        changes["near_duplicates"] = replace(recipe.near_duplicates, threshold=overrides.near_duplicate_jaccard)
    return replace(recipe, sources=sources, **changes)


def _with_threshold(sources: tuple[SourceRecipe, ...], value: float) -> tuple[SourceRecipe, ...]:
    """Return the sources with another threshold in their language rules."""
    if not 0 <= value <= 1:
        raise RecipeError(f"language_threshold {value}: give a score between 0 and 1")
    if not any(_is_language_rule(rule) for source in sources for rule in source.rules):
        raise RecipeError(
            f"language_threshold: no source of the recipe drops documents by {LANGUAGE_COLUMN}; add such a rule"
        )
    return tuple(
        replace(s, rules=tuple(replace(r, value=value) if _is_language_rule(r) else r for r in s.rules))
        for s in sources
    )


def _capped(sources: tuple[SourceRecipe, ...], most: int) -> tuple[SourceRecipe, ...]:
    """Return the sources with `most` bytes divided among those of the environment, in proportion to what they had."""
    found = [s.read for s in sources if isinstance(s.read, EnvironmentSource)]
    caps = [read.max_bytes for read in found if read.max_bytes is not None]
    if not found or len(caps) < len(found):
        raise RecipeError("max_bytes: every environment source of the recipe needs a max_bytes of its own to be scaled")
    scale = most / sum(caps)
    return tuple(
        replace(s, read=replace(s.read, max_bytes=int((s.read.max_bytes or 0) * scale)))
        if isinstance(s.read, EnvironmentSource)
        else s
        for s in sources
    )
