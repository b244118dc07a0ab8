"""A training run in the dashboard: a curve that grows, its progress, and at the end its card."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import matplotlib.figure  # noqa: F401 - now: a signal to end that comes while it is imported would leave half of it
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from olmo_core.report.training import curve, picture
from olmo_core.train.progress import RECENT, about, typical
from olmo_core.train.run_file import RunFile
from olmo_core.train.run_record import RunRecord
from tasks.dashboard import key

QUIET = 8.0
"""Seconds between two updates, at least."""
SLOWER = 200.0
"""Of a long run the time since its start, over this, is the pause: 10 minutes into it 8 s, a day into it 7 minutes."""

BEFORE = "before the first step"
_STAMP = re.compile(r"^[\d-]+ [\d:,]+ rank \d+ \w+ ")
"""How the trainer's log lines begin."""

log = logging.getLogger(__name__)


class TrainingView:
    """Shows a run as it goes on; trouble with the dashboard or the store's reading is logged and never stops training."""

    def __init__(
        self, record: RunRecord, run: RunFile, say: Callable[[str], None], tail: Callable[[], list[str]]
    ) -> None:
        """Take the run's record, what writes a line into the flow run's log, and what reads the end of the job's log."""
        self._record, self._run, self._say, self._tail = record, run, say, tail
        self._heard = ""
        self._began = time.monotonic()
        self._told = 0.0
        self._where = _flow_runs()
        self._shown = 0

    def show(self, *, final: bool = False) -> None:
        """Update curve and progress when it is time, and there is news."""
        now = time.monotonic()
        pause = max(QUIET, (now - self._began) / SLOWER)
        if not final and now - self._told < pause:
            return
        self._told = now
        try:
            if self._record.refresh() or (final and self._shown):
                self._update()
            elif self._record.last is None and not final:
                self._before_the_first_step()
        except Exception as error:
            log.warning("the curve of %s is not updated: %s: %s", self._run.ref, type(error).__name__, error)

    def _before_the_first_step(self) -> None:
        """Pass on what the job says of itself: loading, fetching tokens and the first held-out loss take their time."""
        line = next((one for one in reversed(self._tail()) if _STAMP.match(one)), "")
        heard = _STAMP.sub("", line)[:200]
        if heard and heard != self._heard:
            self._heard = heard
            self._say(f"{BEFORE}: {heard}")

    def _update(self) -> None:
        last = self._record.last
        if last is None:
            return
        if (step := int(last["step"])) != self._shown:
            self._say(summary(self._record.steps, self._run.recipe.steps))
        self._shown = step
        _put_progress(self._record, self._run, draw(self._record, self._run), self._where)


def complete(record: RunRecord, run: RunFile, drawn: str) -> None:
    """Bring up to date what this flow run has shown of a run whose end it did not see, as after a kill; shows nothing new.

    `drawn`: the whole curve, by `draw`.
    """
    if record.steps:
        _put_progress(record, run, drawn, [one for one in (flow_run.id,) if one], make=False)


def _put_progress(record: RunRecord, run: RunFile, drawn: str, flow_runs: list[UUID], *, make: bool = True) -> None:
    name, total, text = run.recipe.name, run.recipe.steps, summary(record.steps, run.recipe.steps)
    percent = min(100.0 * int(record.steps[-1]["step"]) / total, 100.0)
    put("progress", key("progress", name, "training"), percent, text, flow_runs, make=make)
    body, about_it = f"# {name}\n\n{text}\n\n{drawn}", f"Loss of {run.ref}"
    put("markdown", key("curve", name), body, about_it, flow_runs, make=make)


def draw(record: RunRecord, run: RunFile, baseline: float | None = None) -> str:
    """Return the curve as Markdown, with the loss of a bigram model where that is known."""
    png = curve(
        record.steps,
        list(record.events.values()),
        title=f"{run.recipe.name}  ({run.ref})",
        total_steps=run.recipe.steps,
        baseline=baseline,
    )
    return picture(png, f"loss of {run.recipe.name}")


def summary(steps: list[Any], total: int) -> str:
    """Return in one line how far the run is."""
    last = steps[-1]
    step = int(last["step"])
    recent = [line for line in steps[-RECENT:] if line.get("seconds")]
    parts = [f"step {step:,} of {total:,}"]
    if last.get("loss") is not None:
        parts.append(f"loss {float(last['loss']):.3f}")
    held_out = next((line["held_out_loss"] for line in reversed(steps) if line.get("held_out_loss") is not None), None)
    if held_out is not None:
        parts.append(f"held-out {float(held_out):.3f}")
    if last.get("tokens_per_second_per_device"):
        parts.append(f"{float(last['tokens_per_second_per_device']):,.0f} tokens/s per device")
    if len(recent) > 1 and step < total:
        # `seconds` are those since the line before, which may be several steps back.
        pairs = zip(recent[:-1], recent[1:], strict=True)
        each = [float(line["seconds"]) / max(1, int(line["step"]) - int(before["step"])) for before, line in pairs]
        parts.append(f"{about((total - step) * typical(each))} left")
    return ", ".join(parts)


def put(
    kind: str, artifact_key: str, data: Any, description: str, flow_runs: list[UUID], *, make: bool = True
) -> list[UUID]:
    """Create an artifact for each flow run, or replace what it shows: one a run, however often it is updated or retried.

    Without `make` none is created. Returns the artifacts' ids.
    """
    ids = []
    with get_client(sync_client=True) as client:
        for run in flow_runs:
            known = client.read_artifacts(
                artifact_filter=ArtifactFilter(
                    key=ArtifactFilterKey(any_=[artifact_key]), flow_run_id=ArtifactFilterFlowRunId(any_=[run])
                ),
                limit=1,
            )
            if known:
                client.update_artifact(known[0].id, ArtifactUpdate(data=data, description=description))
                ids.append(known[0].id)
            if known or not make:
                continue
            made = client.create_artifact(
                ArtifactCreate(type=kind, key=artifact_key, data=data, description=description, flow_run_id=run)
            )
            ids.append(made.id)
    return ids


def put_card(artifact_key: str, body: str, description: str) -> None:
    """Show Markdown as the card of the flow run this is in, and say where it stands."""
    shown = put("markdown", artifact_key, body, description, [one for one in (flow_run.id,) if one])
    if (api := PREFECT_API_URL.value()) and shown:
        get_run_logger().info("card: %s/v2/artifacts/artifact/%s", api.removesuffix("/api"), shown[0])


def _flow_runs() -> list[UUID]:
    """Return the flow run that waits for this one, and this one."""
    return [UUID(str(one)) for one in (flow_run.parent_flow_run_id, flow_run.id) if one]
