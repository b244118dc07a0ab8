"""Exporting a corpus in the Dolma toolkit's format, to a folder or a bucket.

    {source}/documents/{shard}.jsonl.gz            our documents as they were read
    {source}/attributes/{stage}/{shard}.jsonl.gz   what each stage says about them, line by line the same documents
    {source}/mix.json                              a configuration of the toolkit's `mix` with this corpus's rules
    corpus/documents/{source}/{shard}.jsonl.gz     the finished corpus, after mixing
    tokens/part-0-{shard}.npy, .csv.gz             its tokens, and which document each range is
    export.json                                    written last: what there is, with sha256; there = the export is whole

Shards are written by worker processes, each file as a whole or not at all. The same corpus gives the same bytes. An
export that was cut short goes on where it was; files that stand, by sha256, are not written again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.dolma_export.files import NOTES, PARTS, ExportedFile, Part, notes, run_job
from olmo_core.dolma_export.plan import NOT_ATTRIBUTES, Plan, plan_export
from olmo_core.errors import RecipeError
from olmo_core.report.explain import manifests_of
from olmo_core.storage import Storage
from olmo_core.workers import Workers

RECORD = "export.json"
_BEGUN = f"{NOTES}/begun"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ExportProgress:
    """How far an export is; reported after every job."""

    jobs_done: int
    jobs_total: int
    bytes_done: int
    """Of the objects that are read."""
    bytes_total: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What became of an export."""

    url: str
    """Address of `export.json`."""
    corpus: str
    written: tuple[ExportedFile, ...]
    found: tuple[ExportedFile, ...]
    """Files that stood already."""
    removed: tuple[str, ...]
    """Files of an earlier state of the corpus that are no part of it any more."""
    seconds: float


def export_dolma(
    store: ArtifactStore,
    corpus: str,
    to: str,
    workers: Workers,
    *,
    parts: Collection[Part] = PARTS,
    progress: Callable[[ExportProgress], None] | None = None,
) -> Exported:
    """Write `parts` of a corpus's newest run to the folder or bucket `to`.

    Raises RecipeError when `to` cannot be used (something else is in it, or it is in the store) or there is no such
    corpus; IntegrityError when an object is damaged, missing or not aligned; StorageError. `export.json` is not there
    then, and whatever files are there are whole.
    """
    began = time.monotonic()
    target = Storage(to)
    _outside(store, target)
    report = store.resolve(f"report/{corpus}")
    manifests = manifests_of(store, corpus)
    state = _read_state(target, report)
    plan = plan_export(store, manifests, target.uri, parts, state.files)
    targets = plan.targets
    others = {path: one for path, one in state.files.items() if one.part not in parts}
    if others and state.report != report.to_json():
        raise RecipeError(
            f"{target.uri} holds {', '.join(sorted({o.part for o in others.values()}))} of another run of {report.name}; "
            "export these parts too, or name an empty folder"
        )
    planned = {path: one.made_from for path, one in targets.items()}
    recorded = {path: one.made_from for path, one in state.files.items() if one.part in parts}
    if not state.whole or planned != recorded:
        begun = {
            "report": report.to_json(),
            "planned": {**state.planned, **{path: one.part for path, one in targets.items()}},
            "files": [one.to_json() for one in state.files.values()],
        }
        target.put(_BEGUN, _json(begun))
        target.delete(RECORD)
    written: list[ExportedFile] = []
    found: list[ExportedFile] = []
    jobs = sorted(plan.jobs, key=lambda job: (-job.size, job.name))
    total, read = sum(job.size for job in jobs), 0
    for done, (job, result) in enumerate(workers.map(run_job, jobs, lambda j: f"export/{j.name}", first_alone=True)):
        written += result.written
        found += result.found
        read += job.size
        if progress is not None:
            progress(
                ExportProgress(
                    jobs_done=done + 1,
                    jobs_total=len(jobs),
                    bytes_done=read,
                    bytes_total=total,
                    seconds=time.monotonic() - began,
                )
            )
    stale = [p for p, part in {**state.planned, **_parts_of(state.files)}.items() if part in parts and p not in targets]
    for path in stale:
        target.delete(path)
    files = sorted([*written, *found, *others.values()], key=lambda one: one.path)
    target.put(RECORD, _json(_record(report, manifests, plan, files)))
    _tidy(target)
    return Exported(
        url=target.url(RECORD),
        corpus=report.name,
        written=tuple(written),
        found=tuple(found),
        removed=tuple(stale),
        seconds=time.monotonic() - began,
    )


@dataclass(frozen=True, kw_only=True)
class _State:
    """What an earlier export left."""

    report: Mapping[str, str]
    whole: bool
    files: Mapping[str, ExportedFile]
    planned: Mapping[str, Part]
    """Part by path of files that may be there although no note tells of them."""


def _read_state(target: Storage, report: ArtifactRef) -> _State:
    """Look at what is in the folder. Raises RecipeError when it is not empty and no export of this corpus."""
    whole, begun = target.exists(RECORD), target.exists(_BEGUN)
    if not whole and not begun:
        if (other := next(iter(target.walk("")), None)) is not None:
            raise RecipeError(
                f"{target.uri} is not empty (there is {other.path}) and holds no export; name an empty folder"
            )
        return _State(report={}, whole=False, files={}, planned={})
    path = RECORD if whole else _BEGUN
    try:
        data = json.loads(target.read(path))
        files = {one["path"]: ExportedFile(**one) for one in data["files"]}
        earlier, planned = dict(data["report"]), dict(data.get("planned", {}))
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError(
            f"{target.url(path)} is no record of an export ({type(error).__name__}: {error}); name an empty folder"
        ) from error
    if earlier.get("name") != report.name:
        raise RecipeError(
            f"{target.uri} holds an export of the corpus {earlier.get('name')!r}, not of {report.name!r}; name an empty folder"
        )
    return _State(report=earlier, whole=whole, files={**files, **notes(target)}, planned=planned)


def _outside(store: ArtifactStore, target: Storage) -> None:
    """Raise RecipeError when the export would lie in the store, or the store in it."""
    inner, outer = target.uri.rstrip("/") + "/", store.uri.rstrip("/") + "/"
    if inner.startswith(outer) or outer.startswith(inner):
        raise RecipeError(
            f"an export to {target.uri} would lie in the store {store.uri}, or around it; name another folder"
        )


def _parts_of(files: Mapping[str, ExportedFile]) -> dict[str, Part]:
    return {path: one.part for path, one in files.items()}  # type: ignore[misc]


def _tidy(target: Storage) -> None:
    """Remove the notes: the record says all that they did."""
    if target.protocol == "file":
        shutil.rmtree(target.url(NOTES), ignore_errors=True)
    for listed in list(target.walk(NOTES)):
        target.delete(listed.path)


def _record(
    report: ArtifactRef,
    manifests: Mapping[str, Manifest],
    plan: Plan,
    files: list[ExportedFile],
) -> dict[str, Any]:
    parts: dict[str, dict[str, int]] = {}
    for one in files:
        counts = parts.setdefault(one.part, {"files": 0, "rows": 0, "bytes": 0})
        counts["files"] += 1
        counts["rows"] += one.rows if not one.path.endswith(".npy") else 0
        counts["bytes"] += one.size
        if one.path.endswith(".npy"):
            counts["tokens"] = counts.get("tokens", 0) + one.rows
    return {
        "format": FORMAT,
        "corpus": report.name,
        "report": report.to_json(),
        "artifacts": {label: str(manifest.ref) for label, manifest in sorted(manifests.items())},
        "parts": dict(sorted(parts.items())),
        "attributes": plan.attributes,
        "left_out": {"columns": plan.left_out, "stages": NOT_ATTRIBUTES},
        "withheld": plan.withheld,
        "files": [one.to_json() for one in files],
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
