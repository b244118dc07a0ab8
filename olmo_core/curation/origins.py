"""By which step an artifact of build-dolma was made: the chain of the run whose report lists it, made again.

A report's manifest holds the whole recipe but for the places where files lay: those come from the environment, or from
the recipe file as it is now. Which files there were, an inventory tells.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.reach import readable
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import Chain, resolve_models
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.steps.inputs import Inventory, known_rows, recorded_inventory, take_inventory
from olmo_core.documents.environment import EnvironmentSource
from olmo_core.documents.files import SourceFile, hash_file
from olmo_core.documents.reader import Source, identity, scan
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError, IntegrityError, RecipeError
from olmo_core.recipe import fingerprint, from_mapping

Rows = Sequence[tuple[str, int, str, str]]


class CorpusOrigins:
    """Finds steps in the chains of all reports of a store, and in that of a recipe whose run never got to its report."""

    def __init__(self, store: ArtifactStore, recipe: CorpusRecipe | None = None) -> None:
        self._store, self._recipe = store, recipe
        self._reports = sorted(readable(store, Kind.REPORT), key=lambda m: m.ended, reverse=True)
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
        step, chain = self._found(ref)
        if step.stage == "documents":
            self._check_places(step, chain.inventories[step.source], shards)
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
            inventories = {s.name: take_inventory(self._store, s.read) for s in resolved.sources}
            chain = Chain(recipe=resolved, inventories=inventories, models=models)
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
            here = {s.name: s.read for s in self._recipe.sources} if self._recipe else {}
            sources = tuple(dataclasses.replace(s, read=_placed(s.read, here)) for s in recipe.sources)
            resolved, models = resolve_models(self._store, dataclasses.replace(recipe, sources=sources))
            inventories = {
                s.name: self._inventory(report.inputs[f"inventory/{s.name}"], s.read) for s in resolved.sources
            }
            self._chains[report.ref] = Chain(recipe=resolved, inventories=inventories, models=models)
        return self._chains[report.ref]

    def _inventory(self, ref: ArtifactRef, source: Source) -> Inventory:
        """Return the inventory as it was then, with the places where the files lie now ("" where they are not found)."""
        rows = self._rows(self._store.manifest(ref), source)
        places: dict[str, str] = {}
        with contextlib.suppress(InputError, RecipeError):  # told when a damaged shard turns out to need one
            places = {file.name: file.url for file in scan(source)}
        files = [SourceFile(name=n, url=places.get(n, ""), size=size, version=version) for n, size, version, _ in rows]
        made = recorded_inventory(source.name, identity(source), files, {row[0]: row[3] for row in rows})
        if made.step.ref != ref:
            raise IntegrityError(f"{ref} does not follow from its own list of files; code of another version made it")
        return made

    def _rows(self, manifest: Manifest, source: Source) -> Rows:
        """Return the list of files of an inventory; from the files themselves where the stored list is damaged."""
        one = manifest.object("files")
        if not self._store.verify(manifest):
            rows = read_shard(self._store.storage, one.path).to_pydict()
            return list(zip(*(rows[name] for name in ("name", "size", "version", "sha256")), strict=True))
        for found in self._candidates(source):
            if fingerprint([[row[0], row[3]] for row in found]) == manifest.recipe["files"]:
                return found
        raise InputError(
            f"the list of files in {manifest.ref} is damaged, and the files of source {source.name} are gone or not the same any "
            f"more{_HOW_TO_SAY if not _has_place(source) else ''}; nothing was changed"
        )

    def _candidates(self, source: Source) -> Iterator[Rows]:
        yield known_rows(self._store, source.name)
        with contextlib.suppress(InputError, RecipeError):  # the caller says what both of these come to
            yield [(file.name, file.size, file.version, hash_file(file)) for file in scan(source)]

    def _check_places(self, step: Step, inventory: Inventory, shards: Collection[str]) -> None:
        wanted = {f.name for shard in step.shards({}) if shard.key in shards for f in shard.inputs["files"]}
        gone = sorted(file.name for file in inventory.files if file.name in wanted and not file.url)
        if gone and not _has_place(step.settings):
            raise RecipeError(f"no artifact tells where the files of source {step.source} lie{_HOW_TO_SAY}")
        if gone:
            raise InputError(
                f"{len(gone)} files of source {step.source} that the damaged shards were read from are gone: {', '.join(gone[:3])}; "
                f"nothing was changed. Put them back, or start anew from the files that there are (`olmo run build-dolma`)"
            )


_HOW_TO_SAY = ": give the recipe file with --recipe"


def _has_place(source: Source) -> bool:
    return isinstance(source, EnvironmentSource) or bool(source.paths)


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
