"""The whole chain of build-dolma as steps in order; what the flow runs and what `olmo plan` looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from olmo_core import assets
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.step import Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.content import artifacts_of
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.layout import TAG_STAGES
from olmo_core.curation.steps.decontamination import contaminated_items_step, decontamination_step
from olmo_core.curation.steps.duplicates import duplicates_step
from olmo_core.curation.steps.evaluation_index import index_step, take_set_inventory
from olmo_core.curation.steps.inputs import Inventory, documents_step, take_inventory
from olmo_core.curation.steps.mixing import mixing_step
from olmo_core.curation.steps.mixture import mixture_step
from olmo_core.curation.steps.report import report_step
from olmo_core.curation.steps.selection import selection_step
from olmo_core.curation.steps.tags import assets_of_stage, tag_step
from olmo_core.curation.steps.tokens import packing_step, tokenization_step
from olmo_core.errors import RecipeError

SOURCE_STAGES = ("inventory", "documents", *TAG_STAGES, "selection")
CORPUS_STAGES = ("near-duplicates", "mixture", "mixing", "tokenization", "packing", "report")
DECONTAMINATION_STAGES = ("evaluation-index", "decontamination", "contaminated-items")
"""Present when the recipe has evaluation sets; `decontamination` is a stage of each source."""


def stages_of(recipe: CorpusRecipe) -> list[tuple[str, str]]:
    """Return stage and source of all steps of a recipe, each after its inputs."""
    corpus = [(stage, "all") for stage in CORPUS_STAGES]
    own, before = list(SOURCE_STAGES), []
    if recipe.decontamination:
        before = [*(("inventory", one.name) for one in recipe.decontamination.sets), ("evaluation-index", "all")]
        own.append("decontamination")
        corpus.insert(0, ("contaminated-items", "all"))
    return before + [(stage, source.name) for source in recipe.sources for stage in own] + corpus


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
        if stage in CORPUS_STAGES:
            return self._make_corpus(stage)
        if stage in DECONTAMINATION_STAGES:
            return self._make_decontamination(stage, name)
        if stage == "inventory":
            return self.inventories[name].step
        source = next(s for s in recipe.sources if s.name == name)
        if stage == "documents":
            return documents_step(recipe, source.read, self.inventories[name])
        documents = self.ref("documents", name)
        if stage == "language":
            return tag_step(stage, recipe, source, documents, None)
        if stage in TAG_STAGES:
            return tag_step(stage, recipe, source, documents, self.ref("language", name), self.models)
        tags = {tag: self.ref(tag, name) for tag in TAG_STAGES if tag != "signatures"}
        return selection_step(source, documents, tags)

    def _make_corpus(self, stage: str) -> Step:
        recipe, documents = self.recipe, self._refs("documents")
        if stage == "near-duplicates":
            verdicts = self._refs("decontamination" if recipe.decontamination else "selection")
            return duplicates_step(recipe, documents, verdicts, self._refs("signatures"))
        if stage == "mixture":
            return mixture_step(recipe, documents, self.ref("near-duplicates"))
        if stage == "mixing":
            tags = {
                source.name: {tag: self.ref(tag, source.name) for tag in ("quality", "content", "pii")}
                for source in recipe.sources
            }
            return mixing_step(recipe, documents, tags, self.ref("near-duplicates"), self.ref("mixture"))
        if stage == "tokenization":
            return tokenization_step(recipe, self.ref("mixing"))
        if stage == "packing":
            return packing_step(recipe, self.ref("tokenization"))
        return report_step(recipe, {step.label: step.ref for step in self.steps(until="report")})

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
    """Return the names of what is read from outside: sources, then evaluation sets."""
    sets = recipe.decontamination.sets if recipe.decontamination else ()
    return [source.name for source in recipe.sources] + [one.name for one in sets]


def inventory_named(
    store: ArtifactStore,
    recipe: CorpusRecipe,
    name: str,
    *,
    rehash: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Inventory:
    """Return the inventory of a source or evaluation set; raises InputError when its files cannot be listed or read."""
    for source in recipe.sources:
        if source.name == name:
            return take_inventory(store, source.read, rehash=rehash, progress=progress)
    sets = recipe.decontamination.sets if recipe.decontamination else ()
    return take_set_inventory(store, next(s for s in sets if s.name == name), rehash=rehash, progress=progress)


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
