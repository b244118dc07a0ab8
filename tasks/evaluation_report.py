"""The end of evaluate-olmo: the report over all checkpoints that were evaluated so, and its tables in the dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from olmo_core.artifacts.build import Built
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from tasks.dashboard import clipped, key
from tasks.evaluation import AUTO, Evaluation
from tasks.expected_errors import without_credentials
from tasks.made import tell
from tasks.stages import STORAGE_RETRIES
from tasks.training_view import put


@task(name="report", task_run_name="report", cache_policy=NO_CACHE, persist_result=False, **STORAGE_RETRIES)
def publish_report(evaluation: Evaluation, done: Mapping[str, ArtifactRef], contaminated: str | None) -> dict[str, str]:
    """Write the report and show it. Returns the addresses of the evaluations by label, of the last one as `evaluation`, and of the `report`.

    Where all evaluations have one name (checkpoints of one run, one recipe) the report is over all of that name, earlier ones included:
    the curve grows with every checkpoint. Else, and where they are of several runs of that name, it is over those of this run.
    """
    from olmo_core.evaluation import reporting

    store, logger = evaluation.store, get_run_logger()
    with without_credentials():
        refs, labels = list(done.values()), list(done)
        if len({one.name for one in refs}) == 1:
            manifests = reporting.series(store, refs[0].name, like=refs[-1])
            if {one.ref for one in manifests} >= set(
                refs
            ):  # not so where they are of several runs, or folders, of one name
                refs, labels = [m.ref for m in manifests], reporting.labels_of(store, manifests)
        items = store.resolve(contaminated) if contaminated not in (None, AUTO) else None
        if contaminated == AUTO:
            items = reporting.contaminated_items(store, refs)
        built = reporting.build_report(store, refs, labels, contaminated=items)
        links = _show(store, built)
    for what, link in links.items():
        logger.info("%s: %s", what, link)
    scored = {label: str(ref) for label, ref in done.items()}
    return tell({**scored, "evaluation": list(scored.values())[-1], "report": str(built.ref)})


def _show(store: ArtifactStore, built: Built) -> dict[str, str]:
    """Put tables, curves and the way to the page into the dashboard; returns links to them."""
    from olmo_core.evaluation import reporting
    from olmo_core.report.evaluation.card import curves_png
    from olmo_core.report.training import picture

    title = built.ref.name.removeprefix("evaluation-")
    text = store.storage.read(built.manifest.object(reporting.MARKDOWN).path).decode()
    drawn = curves_png(*reporting.read_curves(store, built.manifest))
    curves = f"\n## Curves\n\n{picture(drawn, f'scores of {title}')}" if drawn else ""
    shown: dict[str, tuple[str, str]] = {
        "tables": (key("evaluation", title), clipped(f"{text}{curves}\n{_page(store, built, title)}")),
    }
    own: list[Any] = [one for one in (flow_run.id,) if one]
    links = {}
    for what, (artifact, body) in shown.items():
        ids = put("markdown", artifact, body, f"Evaluation of {title}: scores with intervals, curves, changes", own)
        if ids and (api := PREFECT_API_URL.value()):
            links[what] = f"{api.removesuffix('/api')}/v2/artifacts/artifact/{ids[0]}"
    return links


def _page(store: ArtifactStore, built: Built, title: str) -> str:
    path = built.manifest.object("report.html").path
    return (
        f"## The report as a page\n\n```\nolmo report evaluation {title} --store {store.uri} --open\n```\n\n"
        f"It is `{store.storage.url(path)}`.\n"
    )
