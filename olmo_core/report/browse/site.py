"""The whole site: every page by its path, one after another, so that no more than one is in memory."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from olmo_core.artifacts.ref import Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError
from olmo_core.report.browse import artifact, corpora, evaluations, lists, steps, training
from olmo_core.report.browse.catalog import Catalog, Limits, read_catalog
from olmo_core.report.browse.shell import Page
from olmo_core.storage import Storage, Written

LISTING = "olmo-browse.json"
"""Names the files of a site where it lies, each with its sha256: what is there already is not written again, and what an earlier
site left there and this one has not is deleted."""
_AT_ONCE = 8
"""Files that are written at the same time: an object store takes many at once."""


@dataclass(kw_only=True)
class Done:
    """What writing a site came to, in files."""

    files: int = 0
    """Of the whole site."""
    written: int = 0
    """Those of them that were not there yet as they are."""
    removed: int = 0


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
    store: ArtifactStore, place: Storage, limits: Limits | None = None, progress: Callable[[str], None] | None = None
) -> Done:
    """Write the site of a store into a folder or below a prefix of a bucket; only files that changed are written.

    Raises OlmoError for a place with files that are not of an earlier site.
    """
    site = _Site(place=place, before=_before(place), progress=progress)
    catalog = read_catalog(store, limits, progress)
    leading: list[tuple[str, bytes]] = []
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        site.put(_others(files(catalog), leading), threads)
        site.put(leading, threads)
    return site.end()


def _others(every: Iterable[tuple[str, bytes]], leading: list[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield the files, and keep back those that lead to others: whoever reads meanwhile must not be led to what is not there."""
    for path, raw in every:
        if "/" in path:
            yield path, raw
        else:
            leading.append((path, raw))


@dataclass(kw_only=True)
class _Site:
    """A site while it is written."""

    place: Storage
    before: dict[str, str]
    """sha256 of what an earlier site left, by path; empty where it is not known."""
    progress: Callable[[str], None] | None
    now: dict[str, str] = field(default_factory=dict)
    done: Done = field(default_factory=Done)

    def __post_init__(self) -> None:
        # The listing may say what somebody has deleted since.
        self._sizes = {one.path: one.size for one in self.place.walk("")} if self.before else {}

    def put(self, some: Iterable[tuple[str, bytes]], threads: ThreadPoolExecutor) -> None:
        """Write files that are not there yet as they are; all are there when this returns."""
        waiting: deque[Future[Written]] = deque()
        for path, raw in some:
            self.now[path] = hashlib.sha256(raw).hexdigest()
            if self.before.get(path) != self.now[path] or self._sizes.get(path) != len(raw):
                if not self.done.written:
                    # Before the first: what is cut off here is known for ours, and nothing in it is taken for what it was.
                    self._note(dict.fromkeys([*self.before, path], ""))
                self.done.written += 1
                waiting.append(threads.submit(self.place.put, path, raw))
                if len(waiting) > 2 * _AT_ONCE:
                    waiting.popleft().result()
            if self.progress is not None and len(self.now) % 100 == 0:
                self.progress(f"{len(self.now):,} pages made, {self.done.written:,} of them new")
        for one in waiting:
            one.result()

    def end(self) -> Done:
        """Delete what this site has no more, and note what it has."""
        gone = set(self.before) - set(self.now)
        for path in gone:
            self.place.delete(path)
        if gone or self.now != self.before:
            self._note(self.now)
        self.done.files, self.done.removed = len(self.now), len(gone)
        return self.done

    def _note(self, digests: dict[str, str]) -> None:
        self.place.put(LISTING, json.dumps(digests, indent=0, sort_keys=True).encode())


def _before(place: Storage) -> dict[str, str]:
    """Return the files of an earlier site, with the sha256 of each."""
    folders, objects = place.contents("")
    if not folders and not objects:
        return {}
    try:
        found: Any = json.loads(place.read(LISTING)) if LISTING in objects else None
        # Of an older version the listing has names only.
        told = {str(one): str(found[one]) if isinstance(found, dict) else "" for one in found}
    except (ValueError, TypeError) as error:
        raise OlmoError(
            f"{place.uri} has files that are not of an earlier `olmo browse` (it has no {LISTING} that can be read): give a new or "
            "empty folder or prefix"
        ) from error
    # The list is a file that anybody may have changed: nothing outside the folder is deleted.
    return {k: v for k, v in told.items() if not PurePosixPath(k).is_absolute() and ".." not in PurePosixPath(k).parts}
