"""Selection: all thresholds of a source applied at once; each document's first failing rule is the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.curation.corpus_recipe import SourceRecipe
from olmo_core.curation.histograms import breaks, describe, histogram
from olmo_core.curation.layout import FAILS, KEEP, REASON, count_of, document_objects
from olmo_core.curation.rules import Rule, check, evaluate
from olmo_core.documents.shards import column, read_shard, text_sizes
from olmo_core.errors import IntegrityError

VERSION = 2
KEPT, GONE = -1, -2
TAKEDOWN = "takedown"
"""Role of the documents that a takedown list names, and of their copies."""
MEASURED = ("target_score",)
"""Columns whose distribution is counted though no rule may look at them."""


@dataclass(frozen=True, kw_only=True)
class SelectionRecipe:
    """What decides the selection of a source."""

    rules: tuple[Rule, ...]


def selection_step(
    source: SourceRecipe,
    documents: ArtifactRef,
    tags: Mapping[str, ArtifactRef],
    takedown: ArtifactRef | None = None,
) -> Step:
    """Return the step that applies the source's rules to its tags (`tags`: stage -> artifact).

    `takedown` is the artifact of takedown-copies, whose reasons come before all rules.
    """
    return Step(
        stage="selection",
        source=source.name,
        version=VERSION,
        kind=Kind.ATTRIBUTES,
        name=f"{source.name}-selection",
        recipe=SelectionRecipe(rules=source.rules),
        inputs={"documents": documents, **tags, **({TAKEDOWN: takedown} if takedown is not None else {})},
        shards=_aligned,
        work=_select,
        reads=lambda manifests: manifests["documents"].ledger.kept,
    )


def _aligned(inputs: Mapping[str, Manifest]) -> list[Shard]:
    stages = sorted(role for role in inputs if role not in ("documents", TAKEDOWN))
    taken = {o.key: o for o in inputs[TAKEDOWN].objects} if TAKEDOWN in inputs else {}
    by_key = {stage: {o.key: o for o in inputs[stage].objects} for stage in stages}
    shards = []
    for one in document_objects(inputs["documents"]):
        tags = {stage: by_key[stage][one.key] for stage in stages}
        identity = {"documents": one.digest, **{stage: o.digest for stage, o in tags.items()}}
        paths = {"documents": one.path, "tags": {stage: o.path for stage, o in tags.items()}}
        if taken and count_of(taken[one.key], "dropped"):
            # A shard of which nothing is taken down stays what it is without a list.
            identity[TAKEDOWN], paths[TAKEDOWN] = taken[one.key].digest, taken[one.key].path
        shards.append(Shard(key=one.key, identity=identity, inputs=paths, size=one.size))
    return shards


def _select(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: SelectionRecipe = job.recipe[0]
    documents = read_shard(output.storage, job.shard.inputs["documents"], ["text"])
    columns = _columns(job, output, recipe.rules, documents.num_rows)
    before = None
    if path := job.shard.inputs.get(TAKEDOWN):
        before = column(read_shard(output.storage, path, [REASON]), REASON)
    table, reasons = select(columns, recipe.rules, documents.num_rows, before)
    output.table(job.shard.key, table)
    sizes = text_sizes(documents)
    ledger = Ledger()
    ledger.read.add(documents.num_rows, int(sizes.sum()))
    kept = reasons == KEPT
    ledger.kept.add(int(kept.sum()), int(sizes[kept].sum()))
    for i, rule in enumerate(recipe.rules):
        hit = reasons == i
        ledger.drop(rule.name, int(hit.sum()), int(sizes[hit].sum()))
    for name in sorted(set(pc.unique(before).to_pylist()) - {None}) if before is not None else []:
        hit = pc.equal(before, name).fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
        ledger.drop(name, int(hit.sum()), int(sizes[hit].sum()))
    failed = {rule.name: int(np.count_nonzero(table.column(FAILS + rule.name).to_numpy())) for rule in recipe.rules}
    return ledger, {"failed_alone": failed, "distributions": distributions(columns, recipe.rules, sizes, kept)}


def distributions(
    columns: Mapping[str, pa.Array],
    rules: Sequence[Rule],
    sizes: np.ndarray[Any, np.dtype[np.int64]],
    kept: np.ndarray[Any, np.dtype[np.bool_]],
) -> dict[str, Any]:
    """Return the histogram of every column, by name, and that of `text_bytes`, once more for the documents kept."""
    found = {name: describe(name, columns[name], rules) for name in sorted(columns)}
    lengths = describe("text_bytes", pa.array(sizes), ())
    lengths["kept"] = histogram(pa.array(sizes[kept]), breaks("count"))
    return {**found, "text_bytes": lengths}


def _columns(job: Job, output: Output, rules: Sequence[Rule], rows: int) -> dict[str, pa.Array]:
    """Read the columns the rules ask for and those that are `MEASURED`, wherever they are.

    Raises RecipeError for a rule's column that no stage has.
    """
    wanted = {rule.column for rule in rules} | {*MEASURED}
    found: dict[str, pa.Array] = {}
    available: set[str] = set()
    for path in job.shard.inputs["tags"].values():
        table = read_shard(output.storage, path)
        available.update(table.column_names)
        if table.num_rows != rows:
            raise IntegrityError(f"{job.stage}/{job.shard.key}: {rows} documents but {table.num_rows} rows in {path}")
        found.update({name: column(table, name) for name in wanted & set(table.column_names)})
    check(rules, sorted(available))
    return found


def select(
    columns: Mapping[str, pa.Array], rules: Sequence[Rule], rows: int, before: pa.StringArray | None = None
) -> tuple[pa.Table, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the selection's columns and, for each row, the index of its first failing rule (-1: kept, -2: gone before).

    `before` holds reasons that come before all rules, null where there is none.
    Columns: keep (bool), reason (string, null when kept), and `fails_{rule}` (bool) for every rule alone.
    """
    first = np.full(rows, KEPT, np.int64)
    verdicts: dict[str, pa.Array] = {}
    for i, rule in enumerate(rules):
        fails = evaluate(rule, columns[rule.column]).to_numpy(zero_copy_only=False).astype(bool)
        verdicts[FAILS + rule.name] = pa.array(fails)
        first[(first < 0) & fails] = i
    names = pa.array([rule.name for rule in rules], pa.string())
    reason = names.take(pa.array(first, mask=first < 0))
    if before is not None:
        first[before.is_valid().to_numpy(zero_copy_only=False)] = GONE
        reason = pc.coalesce(before, reason)
    return pa.table({KEEP: pa.array(first == KEPT), REASON: reason, **verdicts}), first
