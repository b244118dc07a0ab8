"""build-dolma: raw text in, versioned tokens out.

Every stage is a task named `stage/source`; it makes an artifact in the store or finds that it is made already. Tags
(language, quality, content, PII, signatures) only add columns about documents; `selection` applies all thresholds;
near duplicates are found among the survivors of all sources; mixing rewrites the text once and makes the corpus;
tokenization and packing make what a trainer reads.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.curation.corpus_recipe import Overrides
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
        selections = [curate(run, source.name) for source in session.recipe.sources]
        near_duplicates = run.start("near-duplicates", after=selections)
        mixture = run.start("mixture", after=[near_duplicates])
        corpus = run.start("mixing", after=[mixture])
        tokenization = run.start("tokenization", after=[corpus])
        tokens = run.start("packing", after=[tokenization])
        report = run.start("report", after=[tokens])
        run.finish()
        return publish_corpus(session, corpus.result(), tokens.result(), report.result())


def curate(run: Stages, source: str) -> Future:
    """Read one source and decide which of its documents stay."""
    inventory = run.start("inventory", source)
    documents = run.start("documents", source, after=[inventory])
    language = run.start("language", source, after=[documents])
    tags = [run.start(name, source, after=[language]) for name in TAGS]
    return run.start("selection", source, after=tags)


if __name__ == "__main__":
    build_dolma()
