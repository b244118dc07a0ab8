"""By which step an artifact of build-dolma was made: the chain of the run whose report lists it, made again.

A report's manifest holds the whole recipe but for the places where files lay: those come from the environment, or from
the recipe file as it is now. Which files there were, an inventory tells.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.reach import readable
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import Chain, resolve_models, take_inventories
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.evaluation_sets import list_set
from olmo_core.curation.layout import CORPUS_REPORT
from olmo_core.curation.steps.evaluation_index import set_identity
from olmo_core.curation.steps.inputs import Inventory, known_rows, recorded_inventory
from olmo_core.curation.steps.selection import TAKEDOWN
from olmo_core.curation.steps.takedown import LIST_IDENTITY
from olmo_core.documents.environment import EnvironmentSource
from olmo_core.documents.files import SourceFile, hash_file
from olmo_core.documents.listing import list_files
from olmo_core.documents.reader import Source, identity, scan
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError, IntegrityError, RecipeError
from olmo_core.recipe import fingerprint, from_mapping

Rows = Sequence[tuple[str, int, str, str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Outside:
    """What is read from outside: a source, an evaluation set, the takedown list."""

    what: str
    """For messages: `source web`."""
    identity: Any
    """What identifies its inventory beside the files."""
    scan: Callable[[], list[SourceFile]]
    """Lists its files as they are now."""
    has_place: bool
    """Whether it is known where the files lie."""


class CorpusOrigins:
    """Finds steps in the chains of all reports of a store, and in that of a recipe whose run never got to its report."""

    def __init__(self, store: ArtifactStore, recipe: CorpusRecipe | None = None) -> None:
        self._store, self._recipe = store, recipe
        reports = (one for one in readable(store, Kind.REPORT) if one.stage == CORPUS_REPORT)
        self._reports = sorted(reports, key=lambda m: m.ended, reverse=True)
        self._chains: dict[ArtifactRef, Chain] = {}

    def step(self, ref: ArtifactRef, shards: Collection[str]) -> Step:
        """Return the step that made an artifact.

        Raises RecipeError when no report or recipe leads to it, or code of another version made it; InputError when
        source files that these shards need are gone; IntegrityError.
        """
        if ref.kind == Kind.MODEL:
            raise RecipeError(
                f"{ref}: no model is repaired from here, as nothing tells where its labelled texts lie. Delete {ref.manifest_path} and run "
                f"`olmo run train-classifier` with its recipe: what is not damaged is taken over"
            )
        if ref.kind in (Kind.CHECKPOINT, Kind.RUN):
            raise RecipeError(
                f"{ref}: what was trained is not repaired from here. Delete {ref.manifest_path}: the run, started again, goes on from "
                f"the checkpoint before, and what was made from this one keeps what it has"
            )
        step, chain = self._found(ref)
        outsides = _outsides(chain.recipe)
        for name in _read_by(step, chain.recipe):
            _check_places(step, outsides[name], chain.inventories[name], shards)
        return step

    def _found(self, ref: ArtifactRef) -> tuple[Step, Chain]:
        for report in self._reports:
            roles = ["report/all"] if report.ref == ref else [role for role, one in report.inputs.items() if one == ref]
            if roles:
                chain = self._chain(report)
                step = chain.step(*roles[0].split("/"))
                if step.ref != ref:
                    raise RecipeError(_other_code(self._store, ref, step))
                return step, chain
        if self._recipe is not None:
            resolved, models = resolve_models(self._store, self._recipe)
            chain = Chain(recipe=resolved, inventories=take_inventories(self._store, resolved), models=models)
            for step in chain.steps():
                if step.ref == ref:
                    return step, chain
        raise RecipeError(
            f"no report in the store tells how {ref} was made"
            + (", nor does the recipe lead to it" if self._recipe else "; give the recipe of its run with --recipe")
        )

    def _chain(self, report: Manifest) -> Chain:
        if report.ref not in self._chains:
            recipe = from_mapping(CorpusRecipe, report.recipe["corpus"], str(report.ref))
            placed = _with_places(recipe, self._recipe) if self._recipe else recipe
            resolved, models = resolve_models(self._store, placed)
            inventories = {name: self._inventory(report, name, one) for name, one in _outsides(resolved).items()}
            self._chains[report.ref] = Chain(recipe=resolved, inventories=inventories, models=models)
        return self._chains[report.ref]

    def _inventory(self, report: Manifest, name: str, outside: _Outside) -> Inventory:
        """Return the inventory as it was then, with the places where the files lie now ("" where they are not found)."""
        ref = report.inputs.get(f"inventory/{name}")
        if ref is None:
            raise IntegrityError(f"{report.ref} names no inventory of the {outside.what}, though its recipe has it")
        rows = self._rows(self._store.manifest(ref), name, outside)
        places: dict[str, str] = {}
        with contextlib.suppress(InputError, RecipeError):  # told when a damaged shard turns out to need one
            places = {file.name: file.url for file in outside.scan()}
        files = [SourceFile(name=n, url=places.get(n, ""), size=size, version=version) for n, size, version, _ in rows]
        made = recorded_inventory(name, outside.identity, files, {row[0]: row[3] for row in rows})
        if made.step.ref != ref:
            raise IntegrityError(f"{ref} does not follow from its own list of files; code of another version made it")
        return made

    def _rows(self, manifest: Manifest, name: str, outside: _Outside) -> Rows:
        """Return the list of files of an inventory; from the files themselves where the stored list is damaged."""
        one = manifest.object("files")
        if not self._store.verify(manifest):
            rows = read_shard(self._store.storage, one.path).to_pydict()
            return list(zip(*(rows[name] for name in ("name", "size", "version", "sha256")), strict=True))
        for found in self._candidates(name, outside):
            if fingerprint([[row[0], row[3]] for row in found]) == manifest.recipe["files"]:
                return found
        raise InputError(
            f"the list of files in {manifest.ref} is damaged, and the files of the {outside.what} are gone or not the "
            f"same any more{_HOW_TO_SAY if not outside.has_place else ''}; nothing was changed"
        )

    def _candidates(self, name: str, outside: _Outside) -> Iterator[Rows]:
        yield known_rows(self._store, name)
        with contextlib.suppress(InputError, RecipeError):  # the caller says what both of these come to
            yield [(file.name, file.size, file.version, hash_file(file)) for file in outside.scan()]


_HOW_TO_SAY = ": give the recipe file with --recipe"


def _outsides(recipe: CorpusRecipe) -> dict[str, _Outside]:
    """Return all that a recipe reads from outside, by the name of its inventory."""
    found = {
        s.name: _Outside(
            what=f"source {s.name}",
            identity=identity(s.read),
            scan=partial(scan, s.read),
            has_place=isinstance(s.read, EnvironmentSource) or bool(s.read.paths),
        )
        for s in recipe.sources
    }
    for one in recipe.decontamination.sets if recipe.decontamination else ():
        found[one.name] = _Outside(
            what=f"evaluation set {one.name}",
            identity=set_identity(one),
            scan=partial(list_set, one),
            has_place=bool(one.paths),
        )
    if recipe.takedown is not None:
        found[TAKEDOWN] = _Outside(
            what="takedown list",
            identity=LIST_IDENTITY,
            scan=partial(list_files, TAKEDOWN, recipe.takedown.paths, None),
            has_place=bool(recipe.takedown.paths),
        )
    return found


def _read_by(step: Step, recipe: CorpusRecipe) -> list[str]:
    """Return the names of what a step reads from outside."""
    if step.stage == "evaluation-index" and recipe.decontamination:
        return [one.name for one in recipe.decontamination.sets]
    return {"documents": [step.source], "takedown-list": [TAKEDOWN]}.get(step.stage, [])


def _check_places(step: Step, outside: _Outside, inventory: Inventory, shards: Collection[str]) -> None:
    wanted = {f.name for f in inventory.files} if shards else set()
    if step.stage == "documents":
        wanted = {f.name for shard in step.shards({}) if shard.key in shards for f in shard.inputs["files"]}
    gone = sorted(file.name for file in inventory.files if file.name in wanted and not file.url)
    if gone and not outside.has_place:
        raise RecipeError(f"no artifact tells where the files of the {outside.what} lie{_HOW_TO_SAY}")
    if gone:
        raise InputError(
            f"{len(gone)} files of the {outside.what} that the damaged shards were read from are gone: {', '.join(gone[:3])}; "
            f"nothing was changed. Put them back, or start anew from the files that there are (`olmo run build-dolma`)"
        )


def _with_places(recipe: CorpusRecipe, now: CorpusRecipe) -> CorpusRecipe:
    """Return a recipe as it was, with the places of sources, evaluation sets and takedown list of one of today."""
    reads = {s.name: s.read for s in now.sources}
    sources = tuple(dataclasses.replace(s, read=_placed(s.read, reads)) for s in recipe.sources)
    cleaning, listed = recipe.decontamination, recipe.takedown
    if cleaning and now.decontamination:
        places = {one.name: one for one in now.decontamination.sets}
        sets = tuple(
            dataclasses.replace(one, paths=places[one.name].paths, root=places[one.name].root)
            if one.name in places
            else one
            for one in cleaning.sets
        )
        cleaning = dataclasses.replace(cleaning, sets=sets)
    if listed and now.takedown:
        listed = dataclasses.replace(listed, paths=now.takedown.paths)
    return dataclasses.replace(recipe, sources=sources, decontamination=cleaning, takedown=listed)


def _placed(read: Source, here: Mapping[str, Any]) -> Source:
    """Return a source as it was, with the places of the source of that name in a recipe of today."""
    now = here.get(read.name)
    if now is None or isinstance(read, EnvironmentSource) or type(now) is not type(read):
        return read
    return dataclasses.replace(read, paths=now.paths, root=now.root)


def _other_code(store: ArtifactStore, ref: ArtifactRef, step: Step) -> str:
    made = store.manifest(ref)
    commit = made.environment.get("commit") or "unknown"
    return (
        f"{ref} was made by version {made.version} of stage {made.stage} (commit {commit}); this code has version {step.version} "
        f"and makes {step.ref}. Repair it with the code of that commit; nothing was changed"
    )
