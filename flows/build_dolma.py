"""build-dolma: raw text in, versioned tokens out.

Every stage is a task named `stage/source`; it makes an artifact in the store or finds that it is made already. Tags
(language, quality, content, PII, signatures) only add columns about documents; `selection` applies all thresholds;
near duplicates are found among the survivors of all sources; mixing rewrites the text once and makes the corpus;
tokenization and packing make what a trainer reads.
"""

from __future__ import annotations

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.curation.corpus_recipe import Overrides
from tasks.publish import publish_corpus
from tasks.session import Resources, Session, open_session
from tasks.stages import stage_task

TAGS = ("quality", "content", "pii", "signatures")


def run_name() -> str:
    """Name a run by its recipe and the beginning of its id."""
    recipe = str(flow_run.parameters.get("recipe", "")).rsplit("/", 1)[-1].removesuffix(".yaml")
    return f"{recipe}-{str(flow_run.id or '')[:8]}"


@flow(name="build-dolma", flow_run_name=run_name, task_runner=ThreadPoolTaskRunner(max_workers=8), persist_result=False)
def build_dolma(recipe: str = "quickstart", overrides: Overrides | None = None, resources: Resources | None = None) -> dict[str, str]:
    """Curate a corpus and turn it into tokens.

    Args:
        recipe: Name of a recipe (`deployments/recipes/{name}.yaml`) or path of a YAML file.
        overrides: The few values worth changing without writing a recipe file.
        resources: Where and how the run works; changes nothing about what comes out.
    """
    with open_session(recipe, overrides, resources) as session:
        selections = [curate(session, source.name) for source in session.recipe.sources]
        near_duplicates = stage(session, "near-duplicates", after=selections)
        mixture = stage(session, "mixture", after=[near_duplicates])
        corpus = stage(session, "mixing", after=[mixture])
        tokenization = stage(session, "tokenization", after=[corpus])
        tokens = stage(session, "packing", after=[tokenization])
        report = stage(session, "report", after=[tokens])
        return publish_corpus(session, corpus, tokens, report)


def curate(session: Session, source: str) -> PrefectFuture[ArtifactRef]:
    """Read one source and decide which of its documents stay."""
    inventory = stage(session, "inventory", source)
    documents = stage(session, "documents", source, after=[inventory])
    language = stage(session, "language", source, after=[documents])
    tags = [stage(session, name, source, after=[language]) for name in TAGS]
    return stage(session, "selection", source, after=tags)


def stage(
    session: Session, name: str, source: str = "all", after: list[PrefectFuture[ArtifactRef]] | None = None
) -> PrefectFuture[ArtifactRef]:
    """Start one stage of one source once those before it are done."""
    return stage_task(name, source).submit(session, name, source, wait_for=after or [])


if __name__ == "__main__":
    build_dolma()
