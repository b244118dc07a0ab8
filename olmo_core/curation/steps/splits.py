"""Splits: which of the surviving documents are held out, and the last look that none of them is in what trains.

A survivor is held out when its own number says so, and also when the number of a document that was dropped in its
favour does: the lowest number of all decides. Whichever copy wins another time, the text stays out of training, as long
as the copy whose number decides comes to near-duplicates: one that a rule, decontamination or takedown drops before it
decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.artifacts.ledger import Ledger, Tally
from olmo_core.artifacts.manifest import FinishedShard, Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.layout import INDEX, document_objects
from olmo_core.curation.splits import TRAIN, HeldOut, held_out_below, numbers, split_of
from olmo_core.documents.shards import column, read_shard, text_sizes
from olmo_core.errors import IntegrityError
from olmo_core.storage import Storage

VERSION = 1
HELD_OUT = "held out: "
"""Prefix of the reason for which mixing leaves a document out of training."""


@dataclass(frozen=True, kw_only=True)
class SplitsRecipe:
    """What decides the splits, beside ids and verdicts."""

    held_out: tuple[HeldOut, ...]


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """The objects of one document shard."""

    source: str
    key: str
    documents: str
    verdict: str
    signatures: str


def splits_step(
    recipe: CorpusRecipe,
    documents: Mapping[str, ArtifactRef],
    signatures: Mapping[str, ArtifactRef],
    duplicates: ArtifactRef,
) -> Step:
    """Return the step that says the split of every survivor; the mappings are by source name."""
    names = sorted(documents)
    inputs = {f"{name}-documents": documents[name] for name in names}
    inputs |= {f"{name}-signatures": signatures[name] for name in names}
    return Step(
        stage="splits",
        source="all",
        version=VERSION,
        kind=Kind.ATTRIBUTES,
        name=f"{recipe.name}-splits",
        recipe=SplitsRecipe(held_out=recipe.held_out),
        inputs={"near-duplicates": duplicates, **inputs},
        shards=lambda manifests: [_whole(manifests, names)],
        work=_split,
        reads=lambda manifests: manifests["near-duplicates"].ledger.kept,
        outputs=lambda shard: [f"{e.source}/{e.key}" for e in shard.inputs["entries"]],
    )


def _whole(inputs: Mapping[str, Manifest], sources: Sequence[str]) -> Shard:
    verdicts = {o.key: o for o in inputs["near-duplicates"].objects}
    entries, identity, size = [], [], 0
    for source in sources:
        signed = {o.key: o for o in inputs[f"{source}-signatures"].objects}
        for one in document_objects(inputs[f"{source}-documents"]):
            verdict, signature = verdicts[f"{source}/{one.key}"], signed[one.key]
            entries.append(
                _Entry(source=source, key=one.key, documents=one.path, verdict=verdict.path, signatures=signature.path)
            )
            identity.append([source, one.key, one.digest, verdict.digest, signature.digest])
            size += signature.size
    return Shard(key="all", identity={"shards": identity}, inputs={"entries": entries}, size=size)


def _split(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    """Write for each document shard, in its row order: `split` (null where dropped before) and `because_of`.

    `because_of` names the dropped document whose number decided, null where it was the survivor's own.
    """
    recipe: SplitsRecipe = job.recipe[0]
    entries: Sequence[_Entry] = job.shard.inputs["entries"]
    storage = output.storage
    passed_on = Favours.found(storage, ((e.source, e.documents, e.verdict) for e in entries), recipe.held_out)
    names = pa.array([*(split.name for split in recipe.held_out), TRAIN], pa.string())
    ledger = Ledger()
    counts = {name: {"documents": 0, "bytes": 0, "because_of_copies": 0} for name in names.to_pylist()}
    for entry in entries:
        keep = _keep(storage, entry.verdict)
        rows = np.flatnonzero(keep)
        ids = column(read_shard(storage, entry.documents, ["id"]), "id").take(pa.array(rows))
        sizes = column(read_shard(storage, entry.signatures, ["text_bytes"]), "text_bytes").take(pa.array(rows))
        values, because = passed_on.apply(entry.source, ids, numbers(entry.source, ids.to_pylist()))
        split = split_of(values, recipe.held_out)
        split[split < 0] = len(recipe.held_out)
        place = np.full(len(keep), -1, np.int64)
        place[rows] = np.arange(len(rows))
        own = pa.table({"split": names.take(pa.array(split)), "because_of": because})
        output.table(f"{entry.source}/{entry.key}", own.take(pa.array(place, mask=place < 0)))
        bytes_ = sizes.to_numpy(zero_copy_only=False)
        copied = because.is_valid().to_numpy(zero_copy_only=False)
        for number, name in enumerate(names.to_pylist()):
            here = split == number
            counts[name]["documents"] += int(here.sum())
            counts[name]["bytes"] += int(bytes_[here].sum())
            counts[name]["because_of_copies"] += int((here & copied).sum())
        ledger.read.add(len(rows), int(bytes_.sum()))
        ledger.kept.add(len(rows), int(bytes_.sum()))
    return ledger, {"splits": counts}


def _keep(storage: Storage, path: str, rows: int | None = None) -> npt.NDArray[np.bool_]:
    keep = column(read_shard(storage, path, ["keep"], rows=rows), "keep").fill_null(False)
    return np.asarray(keep.to_numpy(zero_copy_only=False), bool)


class Favours:
    """Survivors in whose favour a held-out document was dropped: its number, the lowest of several, is theirs too."""

    def __init__(self, lowest: Mapping[str, tuple[float, str]]) -> None:
        """Take the lowest number, and whose it is, by survivor's `source/id`."""
        self._lowest = lowest
        self._names = pa.array(sorted(lowest), pa.string())

    @classmethod
    def found(cls, storage: Storage, shards: Iterator[tuple[str, str, str]], splits: Sequence[HeldOut]) -> Favours:
        """Look through (source, path of documents, path of verdicts) for dropped documents that would be held out.

        Memory: their names and those of the survivors, which are the held-out fraction of all that was dropped.
        """
        below = held_out_below(splits)
        lowest: dict[str, tuple[float, str]] = {}
        for source, documents, verdict in shards:
            of = column(read_shard(storage, verdict, ["duplicate_of"]), "duplicate_of")
            rows = np.flatnonzero(of.is_valid().to_numpy(zero_copy_only=False))
            if not len(rows):
                continue
            ids = column(read_shard(storage, documents, ["id"]), "id").take(pa.array(rows)).to_pylist()
            values = numbers(source, ids)
            for i in np.flatnonzero(values < below).tolist():
                survivor, mine = of[int(rows[i])].as_py(), (float(values[i]), f"{source}/{ids[i]}")
                lowest[survivor] = min(lowest.get(survivor, mine), mine)
        return cls(lowest)

    def apply(
        self, source: str, ids: pa.Array, values: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], pa.StringArray]:
        """Return the numbers (n,) with those that dropped documents passed on, and whose they are (n, null: its own)."""
        values = values.copy()
        because: list[str | None] = [None] * len(values)
        for row in self.rows(source, ids):
            number, whose = self._lowest[f"{source}/{ids[row].as_py()}"]
            if number < values[row]:
                values[row], because[row] = number, whose
        return values, pa.array(because, pa.string())

    def rows(self, source: str, ids: pa.Array) -> list[int]:
        """Return the rows of the survivors to which a dropped document passed on its number."""
        if not len(self._names) or not len(ids):
            return []
        names = pc.binary_join_element_wise(pa.scalar(source), ids, "/")
        return [int(row) for row in pc.indices_nonzero(pc.is_in(names, self._names)).to_pylist()]


def survivors_role(split: str | None) -> str:
    """Return the stage whose columns say which documents are in a split: without splits, the one before."""
    return "splits" if split else "near-duplicates"


def survivors_size(inputs: Mapping[str, Manifest], split: str | None) -> Tally:
    """Return how many documents, of how many bytes, a split has; of the survivors, where there are no splits."""
    if split is None:
        return inputs["near-duplicates"].ledger.kept
    counts = inputs["splits"].counts["splits"][split]
    return Tally(documents=counts["documents"], bytes=counts["bytes"])


def rows_of(storage: Storage, path: str, split: str | None, rows: int | None = None) -> npt.NDArray[np.bool_]:
    """Return which rows of a document shard are of a split (n,), from a column of splits, or of verdicts without split.

    Raises IntegrityError when there are not `rows` of them, where that is given.
    """
    if split is None:
        return _keep(storage, path, rows)
    own = pc.equal(column(read_shard(storage, path, ["split"], rows=rows), "split"), split).fill_null(False)
    return np.asarray(own.to_numpy(zero_copy_only=False), bool)


def take_in(
    storage: Storage, path: str, split: str | None, documents: pa.Table, ledger: Ledger
) -> npt.NDArray[np.bool_]:
    """Return which documents go into the corpus of a split, and enter what was read and what is held out from training."""
    sizes = text_sizes(documents)
    mine = rows_of(storage, path, split, documents.num_rows)
    ledger.read.add(int(mine.sum()), int(sizes[mine].sum()))
    if split == TRAIN:
        splits = column(read_shard(storage, path, ["split"]), "split")
        for name in sorted(set(pc.unique(splits).to_pylist()) - {None, TRAIN}):
            held = pc.equal(splits, name).fill_null(False).to_numpy(zero_copy_only=False).astype(bool)
            ledger.read.add(int(held.sum()), int(sizes[held].sum()))
            ledger.drop(HELD_OUT + name, int(held.sum()), int(sizes[held].sum()))
    return mine


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Looks once more, from ids and verdicts alone, that training data holds no held-out document; for `Step.check`."""

    held_out: tuple[HeldOut, ...]
    documents: Mapping[str, ArtifactRef]
    """By source."""
    duplicates: ArtifactRef

    def corpus(self, store: ArtifactStore, shards: Sequence[FinishedShard]) -> None:
        """Raise IntegrityError when a corpus that is about to be published for training holds a held-out document."""
        self._look(store, [(o.key, o.path) for shard in shards for o in shard.objects], "the training corpus")

    def tokens(self, store: ArtifactStore, shards: Sequence[FinishedShard], corpus: ArtifactRef) -> None:
        """Raise IntegrityError when tokens for training point at a held-out document, or at none of the corpus."""
        indexes = [o for shard in shards for o in shard.objects if o.key.endswith(INDEX)]
        named: set[str] = set()
        for one in indexes:
            named.update(pc.unique(column(read_shard(store.storage, one.path, ["shard"]), "shard")).to_pylist())
        paths = {o.key: o.path for o in store.manifest(corpus).objects}
        if missing := sorted(named - paths.keys()):
            raise IntegrityError(
                f"the tokens point at shards {missing[:5]}, which {corpus} does not have; this is a bug"
            )
        self._look(store, [(key, paths[key]) for key in sorted(named)], "the training tokens")

    def _look(self, store: ArtifactStore, objects: Sequence[tuple[str, str]], what: str) -> None:
        passed_on = Favours.found(store.storage, self._shards(store), self.held_out)
        below = held_out_below(self.held_out)
        for key, path in objects:
            source = key.split("/")[0]
            ids = column(read_shard(store.storage, path, ["id"]), "id")
            rows = np.flatnonzero(numbers(source, ids.to_pylist()) < below).tolist() + passed_on.rows(source, ids)
            if rows:
                shown = ", ".join(f"{source}/{ids[row].as_py()}" for row in rows[:5])
                raise IntegrityError(
                    f"{what} would hold {len(rows)} held-out documents in shard {key} ({shown}); nothing was published. "
                    f"This is a bug: please report it"
                )

    def _shards(self, store: ArtifactStore) -> Iterator[tuple[str, str, str]]:
        verdicts = {o.key: o.path for o in store.manifest(self.duplicates).objects}
        for source, ref in sorted(self.documents.items()):
            for one in document_objects(store.manifest(ref)):
                yield source, one.path, verdicts[f"{source}/{one.key}"]
