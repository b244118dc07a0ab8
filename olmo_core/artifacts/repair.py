"""Checking artifacts with all they were made from, and repairing what is damaged: only the shards that are.

A damaged shard is run again in an attempt of its own; its objects are put back only when size and sha256 are those of
the manifest. Inputs come first, as the work reads them. Nothing else in the store is changed.
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from olmo_core.artifacts import marks
from olmo_core.artifacts.build import build, run_job
from olmo_core.artifacts.manifest import FinishedShard, Manifest
from olmo_core.artifacts.reach import addresses, readable
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.step import Job, Step
from olmo_core.artifacts.store import ArtifactStore, Damage
from olmo_core.errors import IntegrityError, OlmoError
from olmo_core.storage_removal import delete_many, remove_empty_folders
from olmo_core.workers import Workers

_BLOCK = 1 << 23


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found of one artifact, and what became of it."""

    address: str
    objects: int = 0
    bytes: int = 0
    damages: tuple[Damage, ...] = ()
    repaired: bool = False
    """Everything damaged was put back."""
    problem: str = ""
    """Why it was not."""
    ref: ArtifactRef | None = None
    """None where nothing tells the whole fingerprint: the manifest cannot be read."""
    inputs: tuple[str, ...] = ()
    """Addresses."""

    @property
    def well(self) -> bool:
        """Say whether nothing is damaged any more."""
        return self.repaired or not self.damages


class Origins(Protocol):
    """Knows by which step an artifact was made."""

    def step(self, ref: ArtifactRef, shards: Collection[str]) -> Step:
        """Return the step; raises OlmoError, saying why, when these shards of it cannot be made again."""


def check(
    store: ArtifactStore,
    refs: Iterable[ArtifactRef] | None,
    *,
    inputs: bool,
    contents: bool = True,
    progress: Callable[[Checked, int], None] | None = None,
) -> list[Checked]:
    """Check artifacts (None: all of the store), with `inputs` also all they were made from. Inputs come before what was made from them.

    `progress` is told of each as it is done, with the number of all. A manifest that is missing (though something was
    made from it) or cannot be read is damage, too.
    """
    found = list(_in_order(store, refs, inputs))
    result = []
    for one, manifest in found:
        if manifest is not None:
            size = sum(o.size for o in manifest.objects)
            damages = tuple(store.verify(manifest, contents=contents))
            one = replace(one, objects=len(manifest.objects), bytes=size, damages=damages)
        result.append(one)
        if progress is not None:
            progress(one, len(found))
    return result


def _in_order(
    store: ArtifactStore, refs: Iterable[ArtifactRef] | None, inputs: bool
) -> Iterator[tuple[Checked, Manifest | None]]:
    seen: set[str] = set()
    whole = refs is None

    def visit(address: str, ref: ArtifactRef | None, child: str) -> Iterator[tuple[Checked, Manifest | None]]:
        path = f"{address}/manifest.json"
        blank = Checked(address=address, ref=ref)
        if address in seen:
            return
        if not store.storage.exists(path):
            if child:  # else an attempt that was never finished
                missing = Damage(path=path, problem=f"missing, though {child} refers to it")
                seen.add(address)
                yield replace(blank, damages=(missing,)), None
            return
        seen.add(address)
        try:
            manifest = Manifest.from_bytes(store.storage.read(path), path)
        except IntegrityError as error:
            yield replace(blank, damages=(Damage(path=path, problem=str(error)),)), None
            return
        if whole or inputs:
            for _, parent in sorted(manifest.inputs.items()):
                yield from visit(parent.address, parent, address)
        yield replace(blank, ref=manifest.ref, inputs=tuple(r.address for r in manifest.inputs.values())), manifest

    if refs is None:
        known = {ref.address: ref for manifest in readable(store) for ref in manifest.inputs.values()}
        for address in addresses(store):
            yield from visit(address, known.get(address), "")
        for tag, ref in store.all_tags().items():
            yield from visit(ref.address, ref, f"the tag {tag}")
    else:
        for ref in refs:
            yield from visit(ref.address, ref, "the command")


def repair(
    store: ArtifactStore,
    found: Iterable[Checked],
    origins: Origins,
    workers: Workers,
    progress: Callable[[str], None] | None = None,
) -> list[Checked]:
    """Repair what `check` found, in its order; returns the same with what became of it. An error of one stops no other."""
    result: list[Checked] = []
    bad: set[str] = set()
    for one in found:
        if not one.damages:
            result.append(one)
            continue
        if progress is not None:
            progress(f"repairing {one.address}: {len(one.damages)} damaged")
        try:
            if spoilt := sorted(bad & set(one.inputs)):
                raise IntegrityError(f"its input {spoilt[0]} is damaged and was not repaired")
            if one.ref is None:
                raise IntegrityError("its manifest cannot be read, and nothing else tells what it was")
            if any(damage.path == one.ref.manifest_path for damage in one.damages):
                _make_again(store, origins.step(one.ref, ()), workers)
            else:
                _repair_shards(store, one.ref, {d.path for d in one.damages}, origins, workers)
            result.append(replace(one, repaired=True))
        except OlmoError as error:
            bad.add(one.address)
            result.append(replace(one, problem=str(error)))
    return result


def _make_again(store: ArtifactStore, step: Step, workers: Workers) -> None:
    """Build an artifact whose manifest is missing or unreadable; finished shards are found by their sidecars."""
    path = step.ref.manifest_path
    damaged = store.storage.read(path) if store.storage.exists(path) else None
    try:
        if damaged is not None:
            store.storage.delete(path)
        build(store, step, workers)
    except BaseException:
        if damaged is not None:
            store.storage.put_if_absent(path, damaged)
        raise


def _repair_shards(
    store: ArtifactStore, ref: ArtifactRef, damaged: set[str], origins: Origins, workers: Workers
) -> None:
    manifest = store.manifest(ref)
    # An object that several artifacts list may have been put back for another one.
    damaged = {d.path for d in store.verify(manifest) if d.path in damaged}
    shards = {shard.key: shard for shard in manifest.shards if damaged & {o.path for o in shard.objects}}
    if not shards:
        return
    step = origins.step(ref, shards.keys())
    inputs = {role: store.manifest(parent) for role, parent in step.inputs.items()}
    folder = f"{ref.address}/attempt-{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
    jobs = [
        Job(
            store=store.uri,
            folder=folder,
            stage=step.label,
            fingerprint=shards[shard.key].fingerprint,
            recipe=(step.recipe, step.settings),
            shard=shard,
            work=step.work,
        )
        for shard in step.shards(inputs)
        if shard.key in shards and step.shard_fingerprint(shard) == shards[shard.key].fingerprint
    ]
    if lost := sorted(shards.keys() - {job.shard.key for job in jobs}):
        raise IntegrityError(
            f"its shard {lost[0]} is not what the stage would make of these inputs; nothing was changed"
        )
    marks.start(store, folder, [ref, *step.inputs.values()], ())
    problems = []
    try:
        for job, done in workers.map(_try, jobs, lambda j: f"{step.label}/{j.shard.key}", first_alone=step.compiled):
            problem = done if isinstance(done, str) else _put_back(store, shards[job.shard.key], done, damaged)
            problems += [problem] if problem else []
    finally:
        delete_many(store.storage, (one.path for one in store.storage.walk(folder)))
        remove_empty_folders(store.storage, folder)
    if problems:
        raise IntegrityError(f"{len(problems)} of {len(shards)} damaged shards stay as they are: {problems[0]}")


def _try(job: Job) -> FinishedShard | str:
    """Do one shard in a worker process; what hinders one is no reason to leave out the others."""
    try:
        return run_job(job)
    except OlmoError as error:
        return f"shard {job.shard.key}: {error}"


def _put_back(store: ArtifactStore, standing: FinishedShard, fresh: FinishedShard, damaged: set[str]) -> str:
    """Replace the damaged objects of a shard when all of it came out as it was; return what speaks against it."""
    made = {o.key: o for o in fresh.objects}
    if {k: (o.size, o.sha256) for k, o in made.items()} != {o.key: (o.size, o.sha256) for o in standing.objects}:
        same_rows = {k: o.digest for k, o in made.items()} == {o.key: o.digest for o in standing.objects}
        why = "the same rows in other bytes: another version of a library wrote them" if same_rows else "other rows"
        return f"shard {standing.key}: made again it has {why}"
    for one in standing.objects:
        if one.path in damaged:
            with store.storage.open(made[one.key].path) as source, store.storage.writer(one.path) as (handle, _):
                while block := source.read(_BLOCK):
                    handle.write(block)
    return ""
