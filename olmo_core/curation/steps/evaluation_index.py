"""The evaluation sets as artifacts: an inventory for each, and one index of what documents are searched for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import StoredObject
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.contamination import Keys, collect, sorted_keys
from olmo_core.curation.contamination_verdicts import ITEMS, KEYS, Index, index_of, judge
from olmo_core.curation.decontamination import RULES, VERSION, DecontaminationRecipe, RuleName
from olmo_core.curation.evaluation_sets import EvaluationSet, Item, list_set, read_items
from olmo_core.curation.steps.inputs import Inventory, inventory_of
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError, IntegrityError
from olmo_core.storage import Storage

_BATCH = 32 << 20
_SHOWN = 5
_PLANTED: tuple[tuple[tuple[RuleName, ...], tuple[str, str]], ...] = (
    (("paragraph", "ngrams"), ("Somebody copied this onto a page of his own.\n\n", "\n\nNothing else is there.")),
    (("document",), ("", "")),
)
"""Rules that must find a planted item, and what stands before and behind it."""


@dataclass(frozen=True, kw_only=True)
class IndexRecipe:
    """What decides the index, beside the files; `min_overlap` and `exempt` only decide what is made of matches."""

    decontamination: DecontaminationRecipe


def take_set_inventory(
    store: ArtifactStore,
    one: EvaluationSet,
    *,
    rehash: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Inventory:
    """List the files of an evaluation set and digest those that no earlier inventory knows."""
    return inventory_of(store, one.name, set_identity(one), list_set(one), rehash=rehash, progress=progress)


def set_identity(one: EvaluationSet) -> dict[str, str]:
    """Return what identifies the inventory of a set beside its files."""
    return {"evaluation_set": one.name}


def index_step(corpus: str, recipe: DecontaminationRecipe, inventories: Mapping[str, Inventory]) -> Step:
    """Return the step that reads the evaluation sets into an index; `inventories` by name."""
    own = {one.name: inventories[one.name] for one in recipe.sets}
    shard = Shard(
        key="all",
        identity={
            name: [[f.name, inventory.sha256[f.name]] for f in inventory.files] for name, inventory in own.items()
        },
        inputs={
            name: {
                "files": inventory.files,
                "expected": {f.name: (f.size, inventory.sha256[f.name]) for f in inventory.files},
            }
            for name, inventory in own.items()
        },
        size=sum(f.size for inventory in own.values() for f in inventory.files),
    )
    return Step(
        stage="evaluation-index",
        source="all",
        version=VERSION,
        kind=Kind.ATTRIBUTES,
        name=f"{corpus}-evaluation-index",
        recipe=IndexRecipe(decontamination=_identity(recipe)),
        settings=recipe,
        inputs={name: inventory.step.ref for name, inventory in own.items()},
        shards=lambda _: [shard],
        work=_write_index,
        outputs=lambda _: ["items", *rules_of(recipe)],
        compiled=True,
    )


def _identity(recipe: DecontaminationRecipe) -> DecontaminationRecipe:
    """Return the recipe with only what decides the index."""
    ngrams = replace(recipe.ngrams, min_overlap=None) if recipe.ngrams else None
    return replace(without_set_places(recipe), ngrams=ngrams, exempt=())


def without_set_places(recipe: DecontaminationRecipe) -> DecontaminationRecipe:
    """Return the recipe without the paths of its sets, which decide nothing: the inventories say which files there are."""
    return replace(recipe, sets=tuple(replace(one, paths=(), root=None) for one in recipe.sets))


def rules_of(recipe: DecontaminationRecipe) -> list[RuleName]:
    """Return the rules that the recipe has for any of its sets."""
    asked = {rule for one in recipe.sets for rule in one.rules}
    on: dict[RuleName, bool] = {
        "document": bool(recipe.paragraphs and recipe.paragraphs.documents and "paragraphs" in asked),
        "paragraph": bool(recipe.paragraphs and "paragraphs" in asked),
        "ngrams": bool(recipe.ngrams and "ngrams" in asked),
    }
    return [name for name in RULES if on[name]]


def _batches(recipe: DecontaminationRecipe, inputs: Mapping[str, Any]) -> Iterator[tuple[EvaluationSet, list[Item]]]:
    """Yield the items of all sets in order, in batches of one set and about 32 MB."""
    for one in recipe.sets:
        batch: list[Item] = []
        size = 0
        for item in read_items(one, inputs[one.name]["files"], inputs[one.name]["expected"]):
            batch.append(item)
            size += len(item.text)
            if size > _BATCH:
                yield one, batch
                batch, size = [], 0
        yield one, batch


def _write_index(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: DecontaminationRecipe = job.recipe[1]
    found: dict[RuleName, list[Keys]] = {name: [] for name in rules_of(recipe)}
    tables = [ITEMS.empty_table()]
    total = 0
    for one, batch in _batches(recipe, job.shard.inputs):
        keys = collect(_texts(batch), recipe, one.rules)
        for name, some in keys.items():
            found[name].append(some._replace(item=some.item + np.int32(total)))
        tables.append(_items(one, batch, keys))
        total += len(batch)
    items = pa.concat_tables(tables).combine_chunks()
    output.table("items", items)
    for name, parts in found.items():
        output.table(name, pa.table(list(sorted_keys(parts)), schema=KEYS))
    counts: dict[str, Any] = {"sets": {one.name: _counted(one.name, items) for one in recipe.sets}}
    if recipe.control:
        counts["control"] = _control(job.shard.inputs, output, recipe)
    return Ledger(), counts


def _texts(items: Sequence[Item]) -> pa.LargeStringArray:
    return pa.array([item.text for item in items], pa.large_string())


def _items(one: EvaluationSet, batch: Sequence[Item], keys: Mapping[RuleName, Keys]) -> pa.Table:
    numbers = {
        name: np.bincount(keys[name].item, minlength=len(batch)) if name in keys else np.zeros(len(batch), np.int64)
        for name in ("paragraph", "ngrams")
    }
    columns = [
        [one.name] * len(batch),
        [item.id for item in batch],
        [item.file for item in batch],
        [item.own_id for item in batch],
        [len(item.text.encode()) for item in batch],
        numbers["paragraph"],
        numbers["ngrams"],
    ]
    return pa.table([pa.array(values, one.type) for values, one in zip(columns, ITEMS, strict=True)], schema=ITEMS)


def _counted(name: str, items: pa.Table) -> dict[str, int]:
    """Return how many items of a set there are and how many can be found. Raises InputError when that is none."""
    own = items.filter(pa.compute.equal(items.column("set"), name))
    paragraphs, ngrams = own.column("paragraphs").to_numpy(), own.column("ngrams").to_numpy()
    counts = {
        "items": own.num_rows,
        "empty": int((own.column("bytes").to_numpy() == 0).sum()),
        "searchable": int(((paragraphs > 0) | (ngrams > 0)).sum()),
        "paragraphs": int(paragraphs.sum()),
        "ngrams": int(ngrams.sum()),
    }
    if not counts["searchable"]:
        raise InputError(
            f"evaluation set {name}: none of its {counts['items']} items has a paragraph or an n-gram long enough to look "
            f"for, so no document could ever be found to hold it; correct its fields, or min_words and shortest"
        )
    return counts


def load_index(storage: Storage, objects: Sequence[StoredObject], sets: tuple[str, ...]) -> Index:
    """Return the index that the step wrote; kept in the process, as every shard needs it."""
    return _loaded(storage.uri, tuple((one.key, one.path) for one in objects), sets)


@lru_cache(maxsize=1)
def _loaded(uri: str, objects: tuple[tuple[str, str], ...], sets: tuple[str, ...]) -> Index:
    storage = Storage(uri)
    tables = {key: read_shard(storage, path) for key, path in objects}
    keys = {name: Keys(*(tables[name].column(c).to_numpy() for c in KEYS.names)) for name in RULES if name in tables}
    return index_of(tables["items"], keys, sets)


def _control(inputs: Mapping[str, Any], output: Output, recipe: DecontaminationRecipe) -> dict[str, int]:
    """Plant every item in a document, and as one, and judge these as the next stage will, with the index as stored.

    Raises IntegrityError when a planted item is not found by each rule that looks for it, or its document is kept: the
    toolkit's decontamination removed nothing, silently, for years.
    """
    strict = replace(recipe.ngrams, min_overlap=1.0) if recipe.ngrams else None
    recipe = replace(recipe, ngrams=strict)
    index = load_index(output.storage, output.objects, tuple(one.name for one in recipe.sets))
    total = planted = 0
    for _, batch in _batches(recipe, inputs):
        numbers = np.arange(total, total + len(batch))
        total += len(batch)
        for names, frame in _PLANTED:
            texts = pa.array([frame[0] + item.text + frame[1] for item in batch], pa.large_string())
            verdicts, found = judge(texts, np.ones(len(batch), bool), index, recipe)
            kept = verdicts.column("keep").to_numpy(zero_copy_only=False).astype(bool)
            for name in names:
                if name not in index.lookups:
                    continue
                sought = index.lookups[name].per_item[numbers] > 0
                own = (found.rule == RULES.index(name)) & (found.item == numbers[found.row])
                seen = np.zeros(len(batch), bool)
                seen[found.row[own]] = True
                planted += int(sought.sum())
                _check_found([item.id for item in batch], name, sought & (kept | ~seen))
    return {"planted": planted, "found": planted}


def _check_found(ids: Sequence[str], rule: str, missed: Any) -> None:
    if missed.any():
        lost = [ids[row] for row in np.flatnonzero(missed)[:_SHOWN]]
        raise IntegrityError(
            f"evaluation-index: the positive control failed: {int(missed.sum())} of {len(ids)} items planted in documents were "
            f"not found by the rule {rule}, first {', '.join(lost)}; nothing was published, as decontamination would miss "
            f"them too. This is a bug: please report it"
        )
