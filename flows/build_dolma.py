"""build-dolma: raw text in, versioned tokens out.

Every stage is a task named `stage/source`; it makes an artifact in the store or finds that it is made already. Tags
(language, quality, content, PII, signatures) only add columns about documents; `selection` applies all thresholds;
documents that hold evaluation data go where the recipe names evaluation sets; near duplicates are found among the
survivors of all sources; mixing rewrites the text once and makes the corpus;
tokenization and packing make what a trainer reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.curation.corpus_recipe import CorpusRecipe, Overrides
from tasks.publish import publish_corpus
from tasks.session import Resources, corpus_name, open_session
from tasks.stages import Stages

TAGS = ("quality", "content", "pii", "signatures")
Future = PrefectFuture[ArtifactRef]
TASKS_AT_ONCE: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=256)
"""A thread for each task, as tasks that wait for others hold one; the work is done by the worker processes."""


def run_name() -> str:
    """Name a run by its corpus and the beginning of its id."""
    return f"{corpus_name(flow_run.parameters)}-{str(flow_run.id or '')[:8]}"


@flow(name="build-dolma", flow_run_name=run_name, task_runner=TASKS_AT_ONCE, persist_result=False)  # type: ignore[arg-type]
def build_dolma(
    recipe: str = "quickstart", overrides: Overrides | None = None, resources: Resources | None = None
) -> dict[str, str]:
    """Curate a corpus and turn it into tokens.

    Args:
        recipe: Name of a recipe (`deployments/recipes/{name}.yaml`) or path of a YAML file.
        overrides: The few values worth changing without writing a recipe file.
        resources: Where and how the run works; changes nothing about what comes out.
    """
    with open_session(recipe, overrides, resources) as session:
        run = Stages(session)
        tags = {source.name: tag(run, source.name) for source in session.recipe.sources}
        listed = take_down(run, tags) if session.recipe.takedown else tags
        selections = [run.start("selection", source, after=[*tags[source], *listed[source]]) for source in tags]
        clean = decontaminate(run, selections, session.recipe) if session.recipe.decontamination else selections
        near_duplicates = run.start("near-duplicates", after=clean)
        held_out = [split.name for split in session.recipe.held_out]
        survivors = run.start("splits", after=[near_duplicates]) if held_out else near_duplicates
        mixture = run.start("mixture", after=[survivors])
        corpus = run.start("mixing", after=[mixture])
        tokenization = run.start("tokenization", after=[corpus])
        tokens = run.start("packing", after=[tokenization])
        kept_apart = [future for split in held_out for future in hold_out(run, split, survivors)]
        report = run.start("report", after=[tokens, *kept_apart])
        run.finish()
        apart = [future.result() for future in kept_apart]
        return publish_corpus(session, corpus.result(), tokens.result(), report.result(), apart)


def tag(run: Stages, source: str) -> list[Future]:
    """Read one source and measure its documents."""
    inventory = run.start("inventory", source)
    documents = run.start("documents", source, after=[inventory])
    language = run.start("language", source, after=[documents])
    return [run.start(name, source, after=[language]) for name in TAGS]


def take_down(run: Stages, tags: Mapping[str, Sequence[Future]]) -> dict[str, list[Future]]:
    """Find what the takedown list names in each source, and copies of that in all."""
    listed = run.start("takedown-list", after=[run.start("inventory", "takedown")])
    named = [run.start("takedown", source, after=[listed, *after]) for source, after in tags.items()]
    return {source: [run.start("takedown-copies", source, after=named)] for source in tags}


def hold_out(run: Stages, split: str, survivors: Future) -> tuple[Future, Future]:
    """Make a corpus and tokens of a held-out split."""
    corpus = run.start("mixing", split, after=[survivors])
    tokenization = run.start("tokenization", split, after=[corpus])
    return corpus, run.start("packing", split, after=[tokenization])


def decontaminate(run: Stages, selections: list[Future], recipe: CorpusRecipe) -> list[Future]:
    """Look for the items of all evaluation sets in every source's documents; list the items that were found."""
    sets = recipe.decontamination.sets if recipe.decontamination else ()
    index = run.start("evaluation-index", after=[run.start("inventory", one.name) for one in sets])
    sources = [source.name for source in recipe.sources]
    clean = [
        run.start("decontamination", source, after=[index, selection])
        for source, selection in zip(sources, selections, strict=True)
    ]
    return [*clean, run.start("contaminated-items", after=clean)]


if __name__ == "__main__":
    build_dolma()
