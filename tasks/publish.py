"""The end of build-dolma: tags for what was made, and the report in the dashboard."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from olmo_core.artifacts.ref import ArtifactRef
from tasks.dashboard import show_report
from tasks.made import tell
from tasks.session import Session
from tasks.stages import STORAGE_RETRIES


@task(name="publish/all", task_run_name="publish/all", cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES)
def publish_corpus(
    session: Session,
    corpus: ArtifactRef,
    tokens: ArtifactRef,
    report: ArtifactRef,
    held_out: Sequence[ArtifactRef] = (),
) -> dict[str, str]:
    """Tag corpus, tokens and report, and those of held-out splits, as `latest` and with the day's date; show the report.

    Returns the addresses: `corpus`, `tokens`, `report`, and of a split `corpus-validation`, `tokens-validation`.
    """
    today = datetime.datetime.now(datetime.UTC).strftime("%Y.%m.%d")
    for ref in (corpus, tokens, report, *held_out):
        for tag in ("latest", today):
            session.store.tag(ref, tag)
    manifests = {label: built.manifest for label, built in session.built.items()}
    links = show_report(session.store, session.built["report/all"], session.recipe.name, manifests)
    logger = get_run_logger()
    logger.info("tokens: %s", session.store.storage.url(tokens.address))
    for what, link in zip(("waterfall", "report", "report as a page"), links, strict=False):
        logger.info("%s: %s", what, link)
    apart = {f"{ref.kind}{ref.name.removeprefix(session.recipe.name)}": str(ref) for ref in held_out}
    return tell({"corpus": str(corpus), "tokens": str(tokens), "report": str(report), **apart})
