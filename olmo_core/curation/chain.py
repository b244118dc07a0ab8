"""The whole chain of build-dolma as steps in order; what the flow runs and what `olmo plan` looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from olmo_core import assets
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.step import Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.content import artifacts_of
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.layout import TAG_STAGES
from olmo_core.curation.splits import TRAIN
from olmo_core.curation.steps.decontamination import contaminated_items_step, decontamination_step
from olmo_core.curation.steps.duplicates import duplicates_step
from olmo_core.curation.steps.evaluation_index import index_step, take_set_inventory
from olmo_core.curation.steps.inputs import Inventory, documents_step, take_inventory
from olmo_core.curation.steps.mixing import mixing_step
from olmo_core.curation.steps.mixture import mixture_step
from olmo_core.curation.steps.report import report_step
from olmo_core.curation.steps.selection import TAKEDOWN, selection_step
from olmo_core.curation.steps.splits import Guard, splits_step, survivors_role
from olmo_core.curation.steps.tags import assets_of_stage, tag_step
from olmo_core.curation.steps.takedown import copies_step, list_step, named_step, takedown_inventory
from olmo_core.curation.steps.tokens import packing_step, tokenization_step
from olmo_core.errors import RecipeError

SOURCE_STAGES = ("inventory", "documents", *TAG_STAGES, "selection")
CORPUS_STAGES = ("near-duplicates", "mixture", "mixing", "tokenization", "packing", "report")
DECONTAMINATION_STAGES = ("evaluation-index", "decontamination", "contaminated-items")
"""Present when the recipe has evaluation sets; `decontamination` is a stage of each source."""
TAKEDOWN_STAGES = ("takedown-list", "takedown", "takedown-copies")
"""Present when the recipe has a takedown list."""
SPLIT_STAGES = ("mixing", "tokenization", "packing")
"""Corpus stages that a held-out split has too, with its name in place of `all`."""
ALL_STAGES = (*SOURCE_STAGES, *TAKEDOWN_STAGES, *DECONTAMINATION_STAGES, "splits", *CORPUS_STAGES)
"""Every stage that a recipe may have."""


def stages_of(recipe: CorpusRecipe) -> list[tuple[str, str]]:
    """Return stage and source of all steps of a recipe, each after its inputs."""
    corpus = [(stage, "all") for stage in CORPUS_STAGES]
    sources = [source.name for source in recipe.sources]
    before: list[tuple[str, str]] = []
    tags, verdicts = list(SOURCE_STAGES[:-1]), ["selection"]
    if recipe.takedown is not None:
        before += [("inventory", TAKEDOWN), ("takedown-list", "all")]
        tags.append("takedown")
        verdicts.insert(0, "takedown-copies")
    if recipe.decontamination is not None:
        before += [*(("inventory", one.name) for one in recipe.decontamination.sets), ("evaluation-index", "all")]
        verdicts.append("decontamination")
    if recipe.held_out:
        corpus.insert(1, ("splits", "all"))
        corpus[-1:-1] = [(stage, split.name) for split in recipe.held_out for stage in SPLIT_STAGES]
    if recipe.decontamination is not None:
        corpus.insert(0, ("contaminated-items", "all"))
    if recipe.takedown is None:
        return before + [(stage, source) for source in sources for stage in (*tags, *verdicts)] + corpus
    # A copy of what one source must not have may be in another, so verdicts wait for the tags of all.
    groups = [(stage, source) for own in (tags, verdicts) for source in sources for stage in own]
    return before + groups + corpus


@dataclass(kw_only=True)
class Chain:
    """Steps of a recipe by stage and source; corpus stages have the source `all`.

    Steps are made on demand, each from the refs of those before it, which are known before anything is built.
    """

    recipe: CorpusRecipe
    inventories: Mapping[str, Inventory]
    """By name of source or evaluation set."""
    models: Mapping[str, ArtifactRef] = field(default_factory=dict)
    """Model artifacts of the content stage, by classifier name."""
    _made: dict[tuple[str, str], Step] = field(default_factory=dict)

    def step(self, stage: str, source: str = "all") -> Step:
        """Return the step of a stage for a source."""
        if (stage, source) not in self._made:
            self._made[stage, source] = self._make(stage, source)
        return self._made[stage, source]

    def ref(self, stage: str, source: str = "all") -> ArtifactRef:
        """Return the artifact that a stage makes for a source."""
        return self.step(stage, source).ref

    def steps(self, until: str | None = None) -> list[Step]:
        """Return all steps, each after its inputs; those before the corpus stage `until` when it is given."""
        wanted = stages_of(self.recipe)
        end = wanted.index((until, "all")) if until else len(wanted)
        return [self.step(stage, source) for stage, source in wanted[:end]]

    def _refs(self, stage: str) -> dict[str, ArtifactRef]:
        return {source.name: self.ref(stage, source.name) for source in self.recipe.sources}

    def _make(self, stage: str, name: str) -> Step:
        recipe = self.recipe
        if stage in (*CORPUS_STAGES, "splits"):
            return self._make_corpus(stage) if name == "all" else self._make_held_out(stage, name)
        if stage in DECONTAMINATION_STAGES:
            return self._make_decontamination(stage, name)
        if stage == "inventory":
            return self.inventories[name].step
        if stage.startswith("takedown"):
            return self._make_takedown(stage, name)
        source = next(s for s in recipe.sources if s.name == name)
        if stage == "documents":
            return documents_step(recipe, source.read, self.inventories[name])
        documents = self.ref("documents", name)
        if stage == "language":
            return tag_step(stage, recipe, source, documents, None)
        if stage in TAG_STAGES:
            return tag_step(stage, recipe, source, documents, self.ref("language", name), self.models)
        tags = {tag: self.ref(tag, name) for tag in TAG_STAGES if tag != "signatures"}
        return selection_step(source, documents, tags, self.ref("takedown-copies", name) if recipe.takedown else None)

    def _make_takedown(self, stage: str, name: str) -> Step:
        recipe = self.recipe
        if recipe.takedown is None or stage == "takedown-list":
            return list_step(self.inventories[TAKEDOWN])
        if stage == "takedown":
            return named_step(recipe, name, self.ref("documents", name), self.ref("takedown-list"))
        documents, named = self._refs("documents"), self._refs("takedown")
        return copies_step(recipe, recipe.takedown, name, documents, self.ref("signatures", name), named)

    def _make_corpus(self, stage: str) -> Step:
        recipe, documents = self.recipe, self._refs("documents")
        if stage == "near-duplicates":
            verdicts = self._refs("decontamination" if recipe.decontamination else "selection")
            return duplicates_step(recipe, documents, verdicts, self._refs("signatures"))
        if stage == "splits":
            return splits_step(recipe, documents, self._refs("signatures"), self.ref("near-duplicates"))
        split = TRAIN if recipe.held_out else None
        survivors = self.ref(survivors_role(split))
        guard = Guard(held_out=recipe.held_out, documents=documents, duplicates=self.ref("near-duplicates"))
        if stage == "mixture":
            return mixture_step(recipe, documents, survivors)
        if stage == "mixing":
            mixing = mixing_step(recipe, documents, self._mixing_tags(), survivors, self.ref("mixture"), split)
            return replace(mixing, check=guard.corpus) if split else mixing
        if stage == "tokenization":
            return tokenization_step(recipe, self.ref("mixing"))
        if stage == "packing":
            check = partial(guard.tokens, corpus=self.ref("mixing")) if split else None
            return packing_step(recipe, self.ref("tokenization"), check=check)
        return report_step(recipe, {step.label: step.ref for step in self.steps(until="report")})

    def _make_held_out(self, stage: str, split: str) -> Step:
        if stage == "mixing":
            documents = self._refs("documents")
            return mixing_step(self.recipe, documents, self._mixing_tags(), self.ref("splits"), None, split)
        if stage == "tokenization":
            return tokenization_step(self.recipe, self.ref("mixing", split), split)
        return packing_step(self.recipe, self.ref("tokenization", split), split)

    def _mixing_tags(self) -> dict[str, dict[str, ArtifactRef]]:
        tags = ("quality", "content", "pii")
        return {source.name: {tag: self.ref(tag, source.name) for tag in tags} for source in self.recipe.sources}

    def _make_decontamination(self, stage: str, name: str) -> Step:
        recipe = self.recipe.decontamination
        if recipe is None:
            raise RecipeError(f"recipe {self.recipe.name} has no decontamination, so there is no stage {stage}")
        if stage == "evaluation-index":
            return index_step(self.recipe.name, recipe, self.inventories)
        index = self.ref("evaluation-index")
        if stage == "decontamination":
            return decontamination_step(name, recipe, self.ref("documents", name), self.ref("selection", name), index)
        return contaminated_items_step(
            self.recipe.name, recipe, index, self._refs("decontamination"), self._refs("documents")
        )


def inventory_names(recipe: CorpusRecipe) -> list[str]:
    """Return the names of what is read from outside: sources, evaluation sets, the takedown list."""
    sets = recipe.decontamination.sets if recipe.decontamination else ()
    names = [source.name for source in recipe.sources] + [one.name for one in sets]
    return [*names, TAKEDOWN] if recipe.takedown is not None else names


def inventory_named(
    store: ArtifactStore,
    recipe: CorpusRecipe,
    name: str,
    *,
    rehash: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Inventory:
    """Return an inventory by the name of what it lists; raises InputError when its files cannot be listed or read."""
    for source in recipe.sources:
        if source.name == name:
            return take_inventory(store, source.read, rehash=rehash, progress=progress)
    if name == TAKEDOWN and recipe.takedown is not None:
        return takedown_inventory(store, recipe.takedown, rehash=rehash)
    sets = recipe.decontamination.sets if recipe.decontamination else ()
    return take_set_inventory(store, next(s for s in sets if s.name == name), rehash=rehash, progress=progress)


def take_inventories(store: ArtifactStore, recipe: CorpusRecipe, *, rehash: bool = False) -> dict[str, Inventory]:
    """Return the inventories of all that is read from outside, as the files are now.

    Raises InputError for what is not there or cannot be read.
    """
    return {name: inventory_named(store, recipe, name, rehash=rehash) for name in inventory_names(recipe)}


def resolve_models(store: ArtifactStore, recipe: CorpusRecipe) -> tuple[CorpusRecipe, dict[str, ArtifactRef]]:
    """Return the recipe with every model artifact named by its fingerprint, and those artifacts by classifier name.

    Raises RecipeError, listing what there is, for one that is not in the store.
    """
    refs = {name: store.resolve(address) for name, address in artifacts_of(recipe.content).items()}
    classifiers = tuple(
        replace(c, model=str(refs[c.name])) if c.name in refs else c for c in recipe.content.classifiers
    )
    return replace(recipe, content=replace(recipe.content, classifiers=classifiers)), refs


def assets_of(recipe: CorpusRecipe) -> list[str]:
    """Return the names of all outside files that a recipe's stages use, so that they can be had before anything starts.

    Raises RecipeError for a name that is no asset, AssetError for one whose digest nobody knows.
    """
    own = {stage: getattr(recipe, stage, None) for stage in TAG_STAGES}
    names = [name for stage in TAG_STAGES for name in assets_of_stage(stage, own[stage])]
    names.append(recipe.tokens.tokenizer)
    for name in names:
        assets.identity(name)
    return names
