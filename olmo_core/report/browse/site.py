"""The whole site: every page by its path, one after another, so that no more than one is in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from olmo_core.artifacts.ref import Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError
from olmo_core.report.browse import artifact, corpora, evaluations, lists, steps, training
from olmo_core.report.browse.catalog import Catalog, Limits, read_catalog
from olmo_core.report.browse.shell import Page

LISTING = "olmo-browse.json"
"""Names the files of a site in its folder: what an earlier one left there and this one has not is deleted."""


def files(catalog: Catalog) -> Iterator[tuple[str, bytes]]:
    """Yield path and content of every file of the site, all paths different."""
    for make in (lists.overview, corpora.page_of, training.page_of, evaluations.page_of, lists.artifacts):
        yield _file(make(catalog))
    for kind in Kind:
        for page in lists.kind_pages(catalog, kind):
            yield _file(page)
    for ref, path in corpora.copied(catalog).items():
        raw = corpora.copy(catalog, ref, path)
        if raw is not None:
            yield path, raw
    for run in catalog.under_way:
        yield _file(training.under_way(catalog, run))
    for entry in steps.inspected(catalog):
        yield _file(steps.page_of(catalog, entry))
    for group in evaluations.groups(catalog):
        if len(group) > 1:
            yield _file(evaluations.compared(catalog, group))
    for entry in catalog.entries.values():
        if entry.ref in catalog.paged:
            yield _file(artifact.page_of(catalog, entry))


def _file(page: Page) -> tuple[str, bytes]:
    return page.path, page.html().encode("utf-8", "replace")


def write(
    store: ArtifactStore, folder: Path, limits: Limits | None = None, progress: Callable[[str], None] | None = None
) -> int:
    """Write the site of a store into a folder; returns the number of its files.

    Raises OlmoError for a folder with files that are not of an earlier site.
    """
    before = _before(folder)
    catalog = read_catalog(store, limits, progress)
    folder.mkdir(parents=True, exist_ok=True)
    # Named before they are written: what is cut off can be written again.
    written: list[str] = []
    for path, raw in files(catalog):
        target = folder / path
        if not written:
            _note(folder, [*before, path])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(raw)
        written.append(path)
        if progress is not None and len(written) % 100 == 0:
            progress(f"{len(written):,} pages written")
    for path in set(before) - set(written):
        (folder / path).unlink(missing_ok=True)
    _note(folder, written)
    return len(written)


def _note(folder: Path, paths: list[str]) -> None:
    (folder / LISTING).write_text(json.dumps(sorted(set(paths)), indent=0), encoding="utf-8")


def _before(folder: Path) -> list[str]:
    """Return the files of an earlier site in the folder."""
    if not folder.exists() or not any(folder.iterdir()):
        return []
    try:
        found = [str(one) for one in json.loads((folder / LISTING).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise OlmoError(
            f"{folder} has files that are not of an earlier `olmo browse` (it has no {LISTING}): give a new or empty folder"
        ) from error
    # The list is a file that anybody may have changed: nothing outside the folder is deleted.
    return [one for one in found if not PurePosixPath(one).is_absolute() and ".." not in PurePosixPath(one).parts]
