"""Building a step: reuse what is there, adopt finished shards, run the rest, commit the manifest last."""

from __future__ import annotations

import datetime
import json
import logging
import resource
import secrets
import sys
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from olmo_core import provenance
from olmo_core.artifacts import marks
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import FinishedShard, Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.step import Job, Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, IntegrityError, StorageError, TransientStorageError
from olmo_core.recipe import canonical, fingerprint
from olmo_core.storage import Storage
from olmo_core.workers import Executes

log = logging.getLogger(__name__)

SIDECAR = ".done.json"
"""Ending of the small object that says what a finished shard has left."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a step is; reported after every shard."""

    label: str
    shards_done: int
    shards_total: int
    shards_reused: int
    bytes_done: int
    bytes_total: int
    seconds: float
    unit: str = "shards"
    """What `shards_done` counts."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What became of a step."""

    ref: ArtifactRef
    manifest: Manifest
    reused: bool
    """True when the manifest was there already and nothing ran."""
    shards_reused: int
    """Shards taken from an earlier artifact or another attempt."""
    seconds: float
    same_bytes: bool | None = None
    """After a forced rebuild: whether every object came out with the sha256 that the standing manifest states."""
    repaired: int = 0
    """Objects of the standing artifact that were missing or damaged and were put back by the rebuild."""


def build(
    store: ArtifactStore,
    step: Step,
    workers: Executes,
    *,
    rebuild: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Built:
    """Make the artifact of a step, or find that it is made.

    Raises InputError when an input artifact is not finished, IntegrityError when the ledger does not balance,
    QuarantineError, StorageError, and what the work function raises. Nothing is published then; finished shards stay
    in their attempt's folder and are adopted by the next try.
    """
    began = time.monotonic()
    standing = store.find(step.ref)
    if standing is not None and not rebuild and marks.use(store, standing):
        # The limit may be stricter than that of the run that made it.
        _check_quarantine(store, step, standing, f"{step.label}, built earlier")
        return Built(
            ref=step.ref,
            manifest=standing,
            reused=True,
            shards_reused=len(standing.shards),
            seconds=time.monotonic() - began,
        )
    attempt = f"attempt-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    folder = f"{step.ref.address}/{attempt}"
    relies_on = [*step.inputs.values(), *([step.ref] if rebuild else [])]
    marks.start(store, folder, relies_on, reuses=() if rebuild else None)
    inputs = {role: _finished(store, step, role, ref) for role, ref in step.inputs.items()}
    shards = list(step.shards(inputs))
    if len({s.key for s in shards}) != len(shards):
        raise IntegrityError(f"{step.label}: two shards have the same key; this is a bug")
    wanted = {shard.key: step.shard_fingerprint(shard) for shard in shards}
    finished: dict[str, FinishedShard] = {}
    if not rebuild:
        found = {**reusable(store, step), **adoptable(store, step)}
        finished = {
            key: replace(found[print_], key=key)
            for key, print_ in wanted.items()
            if print_ in found and _still_there(store, found[print_])
        }
        marks.start(store, folder, relies_on, reuses=[o.path for shard in finished.values() for o in shard.objects])
    reused = len(finished)
    started = _now()
    # Large shards first; those of about one size in an order of this attempt's own, so that of two runs of the same
    # recipe at the same time one finds done what the other has done (see `_made_meanwhile`).
    todo = sorted(
        (s for s in shards if s.key not in finished),
        key=lambda s: (-s.size.bit_length(), fingerprint([attempt, s.key])),
    )
    jobs = [
        Job(
            store=store.uri,
            folder=folder,
            stage=step.label,
            fingerprint=wanted[shard.key],
            recipe=(step.recipe, step.settings),
            shard=shard,
            work=step.work,
            alone=rebuild,
        )
        for shard in todo
    ]
    total = sum(s.size for s in shards)
    done_bytes = sum(s.size for s in shards if s.key in finished)

    def report() -> None:
        if progress is not None:
            progress(
                Progress(
                    label=step.label,
                    shards_done=len(finished),
                    shards_total=len(shards),
                    shards_reused=reused,
                    bytes_done=done_bytes,
                    bytes_total=total,
                    seconds=time.monotonic() - began,
                )
            )

    taken: list[FinishedShard] = []
    report()
    for job, result in workers.map(run_job, jobs, lambda j: f"{step.label}/{j.shard.key}", first_alone=step.compiled):
        finished[job.shard.key] = result
        done_bytes += job.shard.size
        if not _is_own(job, result):
            taken.append(result)
            reused += 1
        report()
    ordered = tuple(finished[key] for key in sorted(finished))
    manifest = _manifest(step, attempt, started, ordered)
    _check(store, step, manifest, inputs)
    if rebuild and standing is not None:
        same = _same_bytes(standing, manifest)
        repaired = _repair(store, standing, manifest) if same else 0
        return Built(
            ref=step.ref,
            manifest=standing,
            reused=False,
            shards_reused=0,
            seconds=time.monotonic() - began,
            same_bytes=same,
            repaired=repaired,
        )
    shared = [o.path for shard in ordered for o in shard.objects if not o.path.startswith(f"{folder}/")]
    if taken:
        marks.start(store, folder, relies_on, reuses=shared)
        _check_taken(store, step, taken)
    published, ours = store.publish(manifest)
    marks.confirm(store, published, attempt, ours=ours)
    made, word = len(shards) - reused, "shard" if len(shards) - reused == 1 else "shards"
    log.info("%s: %d %s built, %d reused, %.1f s", step.label, made, word, reused, time.monotonic() - began)
    return Built(ref=step.ref, manifest=published, reused=False, shards_reused=reused, seconds=time.monotonic() - began)


def run_job(job: Job) -> FinishedShard:
    """Do one shard in a worker process and leave its sidecar; or take it over, if another attempt did it meanwhile."""
    began = _cpu_seconds()
    if not job.alone and (made := _made_meanwhile(ArtifactStore(job.store), job)) is not None:
        return made
    storage = Storage(job.store)
    output = Output(storage, job.folder)
    ledger, counts = job.work(job, output)
    ledger.balance(f"{job.stage}/{job.shard.key}")
    finished = FinishedShard(
        key=job.shard.key,
        fingerprint=job.fingerprint,
        objects=tuple(output.objects),
        ledger=ledger,
        counts=counts,
        code=provenance.code_digest(),
        cpu_seconds=round(_cpu_seconds() - began, 3),
        peak_memory_bytes=_peak_memory(),
    )
    sidecar = json.dumps(finished.to_json(), sort_keys=True, ensure_ascii=False, default=dict).encode()
    storage.put(f"{job.folder}/{job.shard.key}{SIDECAR}", sidecar)
    return finished


def reusable(store: ArtifactStore, step: Step) -> dict[str, FinishedShard]:
    """Return, by fingerprint, the shards of earlier artifacts of the same name whose objects are still there."""
    found: dict[str, FinishedShard] = {}
    for manifest in store.finished(step.kind, step.name):
        if manifest.stage == step.stage and manifest.version == step.version:
            found.update({shard.fingerprint: shard for shard in manifest.shards})
    return found


def _still_there(store: ArtifactStore, shard: FinishedShard) -> bool:
    """Say whether a shard of an earlier artifact has all its objects, by size; `verify` compares contents."""
    return all(store.storage.size(one.path) == one.size for one in shard.objects)


def _check_taken(store: ArtifactStore, step: Step, taken: Iterable[FinishedShard]) -> None:
    """See that shards taken from other attempts while this one ran are there, now that its mark names them.

    Also their sidecars: a collection deletes a sidecar, then reads the marks, then deletes objects. So while a sidecar
    is there, it has yet to read them. Raises TransientStorageError, naming a shard, when something is gone.
    """
    for shard in taken:
        folder = "/".join(shard.objects[0].path.split("/")[:4])
        if not (store.storage.exists(f"{folder}/{shard.key}{SIDECAR}") and _still_there(store, shard)):
            raise TransientStorageError(
                f"{step.label}/{shard.key}: taken from {folder}, which a garbage collection has deleted since; "
                f"nothing was published. Run it again"
            )


def adoptable(store: ArtifactStore, step: Step) -> dict[str, FinishedShard]:
    """Return, by fingerprint, the shards that unfinished attempts at this address left, made by this very code.

    Each object's size and sha256 are checked against the sidecar: a sidecar is written after its objects, but a disk
    may lie after a crash.
    """
    found: dict[str, FinishedShard] = {}
    for listed in store.storage.walk(step.ref.address):
        if listed.path.endswith(SIDECAR):
            shard = _left_behind(store, listed.path, found)
            if shard is not None:
                found[shard.fingerprint] = shard
    return found


def _left_behind(store: ArtifactStore, path: str, known: Container[str] = ()) -> FinishedShard | None:
    """Return the shard of a sidecar if it may be taken over: of this code, not known yet, its objects as they should be.

    What a collection deletes while this reads is as if it had never been there.
    """
    paths = [path]
    try:
        shard = FinishedShard.from_json(json.loads(store.storage.read(path)))
        if shard.code != provenance.code_digest() or shard.fingerprint in known:
            return None
        paths += [one.path for one in shard.objects]
        if all(store.storage.size(o.path) == o.size and store.sha256(o.path) == o.sha256 for o in shard.objects):
            return shard
    except StorageError:
        if all(store.storage.exists(one) for one in paths):
            raise
        log.info("not adopting %s: it was deleted meanwhile", path)
        return None
    except (ValueError, KeyError, TypeError):
        log.warning("ignoring unreadable sidecar %s", path)
        return None
    log.warning("not adopting %s: its objects are not what its sidecar says", path)
    return None


def _made_meanwhile(store: ArtifactStore, job: Job) -> FinishedShard | None:
    """Return the job's shard if another attempt at the address has finished it since this build looked.

    Asked just before the work begins: of two runs at the same time only what both have under way is done twice.
    """
    address, own = job.folder.rsplit("/", 1)
    for attempt in store.storage.folders(address):
        sidecar = f"{address}/{attempt}/{job.shard.key}{SIDECAR}"
        if attempt != own and store.storage.exists(sidecar):
            shard = _left_behind(store, sidecar)
            if shard is not None and shard.fingerprint == job.fingerprint:
                return shard
    return None


def _is_own(job: Job, result: FinishedShard) -> bool:
    return all(one.path.startswith(f"{job.folder}/") for one in result.objects)


def _finished(store: ArtifactStore, step: Step, role: str, ref: ArtifactRef) -> Manifest:
    manifest = store.find(ref)
    if manifest is None:
        raise InputError(f"{step.label}: its input {role} ({ref}) is not finished; run the stage that makes it first")
    return manifest


def _manifest(step: Step, attempt: str, started: str, shards: tuple[FinishedShard, ...]) -> Manifest:
    return Manifest(
        ref=step.ref,
        stage=step.stage,
        version=step.version,
        recipe=canonical(step.recipe),
        inputs=dict(step.inputs),
        attempt=attempt,
        shards=shards,
        ledger=Ledger.total(s.ledger for s in shards),
        counts=total_counts(s.counts for s in shards),
        environment=provenance.environment(),
        started=started,
        ended=_now(),
        cpu_seconds=round(sum(s.cpu_seconds for s in shards), 3),
        peak_memory_bytes=max((s.peak_memory_bytes for s in shards), default=0),
    )


def _check(store: ArtifactStore, step: Step, manifest: Manifest, inputs: Mapping[str, Manifest]) -> None:
    manifest.ledger.balance(step.label)
    if step.reads is not None and (expected := step.reads(inputs)) != manifest.ledger.read:
        raise IntegrityError(
            f"{step.label}: the stages before it kept {expected.to_json()}, but {manifest.ledger.read.to_json()} were read: "
            f"documents were lost or doubled between two stages; nothing was published. This is a bug: please report it"
        )
    _check_quarantine(store, step, manifest, step.label)
    if step.check is not None:
        step.check(store, manifest.shards)


def _check_quarantine(store: ArtifactStore, step: Step, manifest: Manifest, where: str) -> None:
    if step.quarantine_limit is None:
        return

    def first() -> str:
        return step.first_quarantined(store, manifest.shards) if step.first_quarantined is not None else ""

    # Shards that were adopted lie with the attempt that made them.
    bad = [o.path for shard in manifest.shards if shard.ledger.quarantined for o in shard.objects]
    folders = sorted({path.rsplit("/", 1)[0] for path in bad})
    folder = folders[0] if len(folders) == 1 else f"{step.ref.address}/*"
    manifest.ledger.check_quarantine(step.quarantine_limit, where, folder, first)


def total_counts(many: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add up numbers of equal name, through nested mappings; of other values the first is kept."""
    result: dict[str, Any] = {}
    for counts in many:
        for key, value in counts.items():
            if isinstance(value, Mapping):
                result[key] = total_counts([result.get(key, {}), value])
            elif isinstance(value, int | float) and not isinstance(value, bool):
                result[key] = result.get(key, 0) + value
            else:
                result.setdefault(key, value)
    return result


def _same_bytes(standing: Manifest, manifest: Manifest) -> bool:
    before = {o.key: o.sha256 for o in standing.objects}
    return before == {o.key: o.sha256 for o in manifest.objects}


def _repair(store: ArtifactStore, standing: Manifest, fresh: Manifest) -> int:
    """Put back objects of a finished artifact that are missing or damaged, from a rebuild with the same digests."""
    repaired = 0
    for one in standing.objects:
        if store.storage.size(one.path) != one.size or store.sha256(one.path) != one.sha256:
            store.storage.put(one.path, store.storage.read(fresh.object(one.key).path))
            repaired += 1
    return repaired


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended, such as the one that reads web pages."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _peak_memory() -> int:
    """Return the largest resident size of this process, or of a child that has ended, so far, in bytes."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak if sys.platform == "darwin" else peak * 1024


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
