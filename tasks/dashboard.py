"""Artifacts for the Prefect dashboard: progress of long stages, the waterfall, the report."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    update_progress_artifact,
)
from prefect.settings import PREFECT_API_URL

from olmo_core.artifacts.build import Built, Progress
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.report import markdown
from olmo_core.report.corpus import costs

QUIET = 2.0
"""Seconds between two updates, at least; a stage that takes less has no progress artifact."""
LIMIT = 400_000
"""Bytes of one artifact: the dashboard grows slow beyond 500 kB."""


def key(*parts: str) -> str:
    """Return an artifact key: lower-case letters, digits and single dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-")


class ProgressArtifact:
    """A stage's progress: one artifact, made when the stage turns out to be long, updated every two seconds at most."""

    def __init__(self, corpus: str, label: str) -> None:
        self._key = key("progress", corpus, label)
        self._label = label
        self._id: UUID | None = None
        self._told = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Show how far the stage is."""
        now = time.monotonic()
        if now - self._told < QUIET:
            return
        self._told = now
        done = 100.0 * progress.bytes_done / progress.bytes_total if progress.bytes_total else 0.0
        speed = progress.bytes_done / max(progress.seconds, 1e-3)
        left = (progress.bytes_total - progress.bytes_done) / speed if speed else 0.0
        parts = [f"{self._label}: {progress.shards_done} of {progress.shards_total} {progress.unit}"]
        if progress.unit == "shards":
            parts[0] += f" ({progress.shards_reused} reused)"
            parts.append(f"{markdown.size(progress.bytes_done)} of {markdown.size(progress.bytes_total)}")
            parts.append(f"{markdown.size(speed)}/s")
        self._show(min(done, 99.9), ", ".join([*parts, f"about {left:.0f} s left"]))

    def _show(self, percent: float, text: str) -> None:
        if self._id is None:
            self._id = create_progress_artifact(progress=percent, key=self._key, description=text)  # type: ignore[assignment]
        else:
            update_progress_artifact(artifact_id=self._id, progress=percent, description=text)

    def finish(self, built: Built) -> None:
        """Show that the stage is done, if it was long enough to be shown at all."""
        if self._id is not None:
            self._show(100.0, f"{self._label}: done, {len(built.manifest.shards)} shards in {built.seconds:.0f} s")


def show_report(store: ArtifactStore, built: Built, corpus: str, manifests: Mapping[str, Manifest]) -> list[str]:
    """Put a corpus's waterfall and report, with what it cost, into the dashboard. Returns direct links to them, where an address is known."""
    text = store.storage.read(built.manifest.object("report.md").path).decode()
    waterfall = text.split("## Waterfall\n", 1)[-1].split("## Mixture", 1)[0]
    shown = [
        create_markdown_artifact(
            f"# Waterfall of {corpus}\n\n{waterfall}",
            key=key("waterfall", corpus),
            description=f"What each stage kept and dropped of {corpus}",
        ),
        create_markdown_artifact(
            clipped(f"{text}\n## Costs\n\n{costs(manifests)}"),
            key=key("report", corpus),
            description=f"Report of {corpus}: waterfall, mixture, examples, costs",
        ),
    ]
    shown.append(
        create_markdown_artifact(
            whole_report(store, built, corpus),
            key=key("report-file", corpus),
            description=f"Report of {corpus} as a page: plots, samples",
        )
    )
    api = PREFECT_API_URL.value()
    return [f"{api.removesuffix('/api')}/v2/artifacts/artifact/{one}" for one in shown] if api else []


def whole_report(store: ArtifactStore, built: Built, corpus: str) -> str:
    """Return where the report's HTML page is and how to look at it, as Markdown.

    A browser opens neither a file's address from a web page nor `s3://`; an object has a web address too, which opens
    where the bucket lets the reader in without a signature. Signed addresses would put credentials on record.
    """
    path = built.manifest.object("report.html").path
    parts = [
        f"# Report of {corpus} as one page\n\nPlots of every threshold, the waterfall, samples with what was found marked.\n",
        f"```\nolmo report {corpus} --store {store.uri} --open\nolmo report {corpus} --store {store.uri} --to report.html\n```\n",
        f"It is `{store.storage.url(path)}`.\n",
    ]
    if (address := store.storage.web_address(path)) is not None:
        parts.append(f"Where the bucket may be read without a signature: [{address}]({address})\n")
    return "\n".join(parts)


def clipped(text: str) -> str:
    """Return a text short enough for the dashboard, saying so where it was cut."""
    raw = text.encode()
    if len(raw) <= LIMIT:
        return text
    return (
        raw[:LIMIT].decode("utf-8", "ignore").rsplit("\n", 1)[0] + "\n\n*Cut here; the whole report is in the store.*\n"
    )
