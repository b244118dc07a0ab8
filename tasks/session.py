"""What the tasks of one flow run share: the store, the worker processes, the recipe and its chain of steps."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from olmo_core import assets, provenance
from olmo_core.artifacts.build import Built, Progress, build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import Chain, assets_of, inventory_named, resolve_models, stages_of
from olmo_core.curation.corpus_recipe import CorpusRecipe, Overrides, load_recipe
from olmo_core.curation.steps.inputs import Inventory, remember
from olmo_core.errors import OlmoError, RecipeError
from olmo_core.recipe import from_mapping
from olmo_core.storage import Storage
from olmo_core.workers import Workers
from tasks.credentials import credentials
from tasks.expected_errors import shorten, without_credentials

DEFAULT_STORE = ".olmo/store"


NO_USER = r"^(?![A-Za-z][A-Za-z0-9+.-]*://[^/]*[@:])"
"""What a store's address must match before the server keeps it as a parameter: no user or password in it."""


@dataclass(frozen=True, kw_only=True)
class Resources:
    """Where and how a run works; none of this changes what comes out."""

    store: Annotated[str | None, Field(json_schema_extra={"pattern": NO_USER})] = None
    """Folder or s3://bucket/prefix of the artifact store; by default OLMO_STORE, else `.olmo/store` in the project."""
    workers: int | None = None
    """Worker processes; by default one per core."""
    rehash: bool = False
    """Read all input files again instead of trusting size and modification time."""
    rebuild: tuple[str, ...] = ()
    """Stages to run again although their artifact is there (`quality`, or `quality/prose`); tells whether the bytes came out the same."""
    credentials_block: str | None = None
    """Prefect block of type Secret with the store's credentials, a JSON object of AWS_... variables; by default those of the environment."""

    __pydantic_config__ = {"use_attribute_docstrings": True, "extra": "forbid"}

    def __post_init__(self) -> None:
        """Raise StorageError for a store's address that cannot be, before a server has seen it."""
        if self.store is not None:
            Storage(self.store)


def store_uri(given: str | None = None) -> str:
    """Return the address of the artifact store: what is given, else OLMO_STORE, else a folder of the project."""
    return given or os.environ.get("OLMO_STORE") or str(Path(os.environ.get("OLMO_HOME") or ".olmo") / "store")


class Session:
    """The shared parts of one run of the chain. Not a dataclass: Prefect looks inside those when it passes parameters."""

    def __init__(self, recipe: CorpusRecipe, resources: Resources, store: ArtifactStore, workers: Workers) -> None:
        self.recipe, models = resolve_models(store, recipe)
        self.store = store
        self._resources = resources
        self._workers = workers
        self._inventories: dict[str, Inventory] = {}
        self.chain = Chain(recipe=self.recipe, inventories=self._inventories, models=models)
        self.built: dict[str, Built] = {}

    def build(self, stage: str, source: str, progress: Callable[[Progress], None]) -> Built:
        """Make, or find, the artifact of one stage for one source."""
        if stage == "inventory":
            self._inventories[source] = self._inventory(source, progress)
        rebuild = stage in self._resources.rebuild or f"{stage}/{source}" in self._resources.rebuild
        built = build(self.store, self.chain.step(stage, source), self._workers, rebuild=rebuild, progress=progress)
        if stage == "inventory":
            remember(self.store, self._inventories[source])
        self.built[f"{stage}/{source}"] = built
        return built

    def _inventory(self, name: str, progress: Callable[[Progress], None]) -> Inventory:
        began = time.monotonic()

        def tell(done: int, total: int) -> None:
            seconds = time.monotonic() - began
            progress(
                Progress(
                    label=f"inventory/{name}",
                    shards_done=done,
                    shards_total=total,
                    shards_reused=0,
                    bytes_done=done,
                    bytes_total=total,
                    seconds=seconds,
                    unit="files",
                )
            )

        return inventory_named(self.store, self.recipe, name, rehash=self._resources.rehash, progress=tell)


def corpus_name(parameters: Mapping[str, Any]) -> str:
    """Return the name of the corpus that a run with these parameters makes; that of the recipe's file where it cannot be read."""
    recipe, given = str(parameters.get("recipe", "quickstart")), parameters.get("overrides")
    try:
        overrides = from_mapping(Overrides, given, "overrides") if isinstance(given, Mapping) else given
        return load_recipe(recipe, overrides).name
    except OlmoError:
        return Path(recipe).stem


@contextlib.contextmanager
def open_session(recipe: str, overrides: Overrides | None, resources: Resources | None) -> Iterator[Session]:
    """Read the recipe, open the store, start the worker processes on demand; end them with the block.

    Raises RecipeError for a wrong recipe, override or stage name, AssetError for a file that cannot be had, before
    any stage is started.
    """
    shorten()
    resources = resources or Resources()
    loaded, count = checked(recipe, overrides, resources)
    with without_credentials(), credentials(resources.credentials_block):
        store = ArtifactStore(store_uri(resources.store))
        for asset in assets_of(loaded):
            assets.fetch(asset)
        with Workers(count) as workers:
            yield Session(loaded, resources, store, workers)


def checked(recipe: str, overrides: Overrides | None, resources: Resources) -> tuple[CorpusRecipe, int]:
    """Return the recipe and the number of workers when they and the other resources can be used.

    Raises RecipeError, OlmoError: for what is wrong with them, without starting anything.
    """
    provenance.refuse_foreign_package()
    loaded = load_recipe(recipe, overrides)
    stages = stages_of(loaded)
    for name in resources.rebuild:
        if name.split("/")[0] not in {stage for stage, _ in stages}:
            known = ", ".join(dict.fromkeys(stage for stage, _ in stages))
            raise RecipeError(f"rebuild: there is no stage {name!r}; the stages are {known}")
    for name in resources.rebuild:
        if "/" in name and name.split("/")[1] not in {source for _, source in stages}:
            known = ", ".join(dict.fromkeys(source for _, source in stages))
            raise RecipeError(f"rebuild: {name!r} names no source; they are {known}")
    count = resources.workers if resources.workers is not None else len(os.sched_getaffinity(0))
    if count < 1:
        raise RecipeError(f"workers: {count}; at least 1 is needed")
    return loaded, count
