"""Inventory and documents: files from outside become identified, checked and uniform rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import FinishedShard
from olmo_core.artifacts.output import Output, write_parquet
from olmo_core.artifacts.ref import Kind
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.layout import QUARANTINE
from olmo_core.curation.sampling import fractions, stable_hashes
from olmo_core.documents.files import SourceFile, hash_file
from olmo_core.documents.groups import group_files
from olmo_core.documents.ids import find_duplicates, id_hashes
from olmo_core.documents.reader import Source, identity, read_documents, scan
from olmo_core.documents.schema import DOCUMENTS
from olmo_core.documents.shards import column, cut, read_shard, text_sizes
from olmo_core.errors import InputError, QuarantineError
from olmo_core.recipe import fingerprint

INVENTORY_VERSION = 1
DOCUMENTS_VERSION = 1
QUARANTINE_BYTES = 32 << 20
"""Malformed records that are held before they are written as a part."""
HOPELESS_RECORDS, HOPELESS_SHARE = 10_000, 0.5
"""Reading stops when so many records of a group are malformed and they are more than this share, and twice the limit."""
FILES_NAMED = 3
"""Files with malformed records that the message names when there are too many."""
_FILES = pa.schema([("name", pa.string()), ("size", pa.int64()), ("version", pa.string()), ("sha256", pa.string())])


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The files of a source as they are now, with their digests, and the step that records them."""

    step: Step
    files: tuple[SourceFile, ...]
    sha256: Mapping[str, str]
    """Digest by file name."""
    hashed: int
    """Files that had to be read because no earlier inventory knows them at this size and version."""


@dataclass(frozen=True, kw_only=True)
class InventoryRecipe:
    """What identifies an inventory."""

    source: Any
    files: str
    """sha256 over names and content digests."""


@dataclass(frozen=True, kw_only=True)
class DocumentsRecipe:
    """What identifies a source's documents, beside the files."""

    source: Any
    shard_bytes: int
    sample: float = 1.0
    """Fraction of the documents to take, by hash of the id."""
    limit: int | None = None
    """Documents to take at most from each group of files."""


def take_inventory(
    store: ArtifactStore, source: Source, *, rehash: bool = False, progress: Callable[[int, int], None] | None = None
) -> Inventory:
    """List a source's files and digest those that no earlier inventory knows at the same size and version.

    Raises InputError when a pattern matches nothing or a file cannot be read.
    """
    return inventory_of(store, source.name, identity(source), scan(source), rehash=rehash, progress=progress)


def inventory_of(
    store: ArtifactStore,
    name: str,
    source: Any,
    listed_files: Sequence[SourceFile],
    *,
    rehash: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Inventory:
    """Return the inventory of given files under a name; `source` is what else identifies it."""
    files = tuple(listed_files)
    known = {} if rehash else _known(store, name)
    sha256 = {f.name: known[f.name, f.size, f.version] for f in files if (f.name, f.size, f.version) in known}
    new = [f for f in files if f.name not in sha256]
    with ThreadPoolExecutor(4) as threads:
        for n, (file, digest) in enumerate(zip(new, threads.map(hash_file, new), strict=True)):
            sha256[file.name] = digest
            if progress is not None:
                progress(n + 1, len(new))
    return recorded_inventory(name, source, files, sha256, hashed=len(new))


def recorded_inventory(
    name: str, source: Any, files: Sequence[SourceFile], sha256: Mapping[str, str], *, hashed: int = 0
) -> Inventory:
    """Return the inventory of files whose digests are known already, by file name."""
    listed = [[f.name, sha256[f.name]] for f in files]
    recipe = InventoryRecipe(source=source, files=fingerprint(listed))
    rows = [(f.name, f.size, f.version, sha256[f.name]) for f in files]
    shard = Shard(key="files", identity={"files": listed}, inputs={"rows": rows}, size=sum(f.size for f in files))
    step = Step(
        stage="inventory",
        source=name,
        version=INVENTORY_VERSION,
        kind=Kind.INVENTORY,
        name=name,
        recipe=recipe,
        inputs={},
        shards=lambda _: [shard],
        work=_write_inventory,
    )
    return Inventory(step=step, files=tuple(files), sha256=sha256, hashed=hashed)


def _known(store: ArtifactStore, name: str) -> dict[tuple[str, int, str], str]:
    """Return the digests that earlier runs saw, by name, size and version; the latest where two disagree."""
    return {row[:3]: row[3] for row in known_rows(store, name)}


def known_rows(store: ArtifactStore, name: str) -> list[tuple[str, int, str, str]]:
    """Return name, size, version and sha256 of the files that the last run saw; nothing where none did."""
    path = _known_path(name)
    if not store.storage.exists(path):
        return []
    rows = read_shard(store.storage, path).to_pydict()
    return list(zip(*(rows[field.name] for field in _FILES), strict=True))


def remember(store: ArtifactStore, inventory: Inventory) -> None:
    """Note the digests of the files as they are now, so that the next run need not read them.

    A cache beside the artifacts and not in them: times are no identity, and a file that was only touched makes none.
    """
    rows = [(f.name, f.size, f.version, inventory.sha256[f.name]) for f in inventory.files]
    with store.storage.writer(_known_path(inventory.step.name)) as (handle, _):
        write_parquet(handle, _table(rows))


def _known_path(name: str) -> str:
    return f"{Kind.INVENTORY}/{name}/known-files.parquet"


def _table(rows: Sequence[tuple[str, int, str, str]]) -> pa.Table:
    columns = [pa.array([row[i] for row in rows], type=_FILES.field(i).type) for i in range(len(_FILES))]
    return pa.table(columns, schema=_FILES)


def _write_inventory(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    rows = job.shard.inputs["rows"]
    output.table(job.shard.key, _table(rows))
    return Ledger(), {"files": len(rows), "file_bytes": sum(row[1] for row in rows)}


def documents_step(recipe: CorpusRecipe, source: Source, inventory: Inventory) -> Step:
    """Return the step that reads a source's files into document shards, and malformed records into quarantine shards."""
    groups = group_files(inventory.files, recipe.shard_bytes)
    limit = -(-recipe.limit // len(groups)) if recipe.limit is not None else None
    shards = [
        Shard(
            key=group.key,
            identity={"files": [[f.name, inventory.sha256[f.name]] for f in group.files]},
            inputs={
                "files": group.files,
                "expected": {f.name: (f.size, inventory.sha256[f.name]) for f in group.files},
                "quarantine_limit": recipe.quarantine_limit,
            },
            size=sum(f.size for f in group.files),
        )
        for group in groups
    ]
    return Step(
        stage="documents",
        source=source.name,
        version=DOCUMENTS_VERSION,
        kind=Kind.DOCUMENTS,
        name=source.name,
        recipe=DocumentsRecipe(
            source=identity(source), shard_bytes=recipe.shard_bytes, sample=recipe.sample, limit=limit
        ),
        settings=source,
        inputs={"inventory": inventory.step.ref},
        shards=lambda _: shards,
        work=_read_documents,
        quarantine_limit=recipe.quarantine_limit,
        first_quarantined=_first_quarantined,
        check=_check_ids,
        outputs=lambda shard: [f"{shard.key}.000"],
    )


def _read_documents(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
    recipe: DocumentsRecipe = job.recipe[0]
    source: Source = job.recipe[1]
    ledger = Ledger()
    quarantined = _Quarantine(output, job.shard.key, ledger, job.shard.inputs["quarantine_limit"])
    taken = [0]
    records = 0
    notes: Counter[str] = Counter()

    def batches() -> Any:
        nonlocal records
        yield DOCUMENTS.empty_table()
        for batch in read_documents(source, job.shard.inputs["files"], job.shard.inputs["expected"]):
            records += sum(file.records for file in batch.finished)
            quarantined.add(batch.quarantined, batch.documents.num_rows)
            for reason, (count, size) in batch.dropped.items():
                ledger.drop(reason, count, size)
            notes.update(batch.notes)
            yield _trial(batch.documents, recipe, source.name, taken, ledger)

    for part, table in enumerate(cut(batches(), recipe.shard_bytes)):
        size = int(text_sizes(table).sum())
        output.table(f"{job.shard.key}.{part:03d}", table, {"text_bytes": size})
        ledger.kept.add(table.num_rows, size)
    quarantined.write()
    ledger.read = sum([*ledger.quarantined.values(), *ledger.dropped.values()], ledger.kept)
    # The reader's own count, so that the ledger can tell when a record was lost on the way.
    ledger.read.documents = records
    return ledger, {"files": len(job.shard.inputs["files"])} | ({"notes": dict(sorted(notes.items()))} if notes else {})


class _Quarantine:
    """Writes malformed records as they come, so that a file that is something else does not fill the memory."""

    def __init__(self, output: Output, key: str, ledger: Ledger, limit: float) -> None:
        self._output, self._key, self._ledger, self._limit = output, key, ledger, limit
        self._held: list[pa.Table] = []
        self._bytes = self._parts = self._bad = self._good = 0

    def add(self, table: pa.Table, good: int) -> None:
        """Take the malformed records of a batch that has so many documents besides.

        Raises QuarantineError when the group is beyond hope: then nobody waits for the rest of it.
        """
        self._good += good
        if not table.num_rows:
            return
        self._bad += table.num_rows
        self._held.append(table)
        self._bytes += table.nbytes
        by_reason = table.group_by("reason", use_threads=False)
        for counted in by_reason.aggregate([("size", "count"), ("size", "sum")]).to_pylist():
            self._ledger.quarantine(str(counted["reason"]), counted["size_count"], counted["size_sum"])
        share = self._bad / (self._bad + self._good)
        if self._bad >= HOPELESS_RECORDS and share > max(HOPELESS_SHARE, 2 * self._limit):
            first = table.slice(0, 1).to_pylist()[0]
            raise QuarantineError(
                f"documents, group {self._key}: {self._bad:,} of the first {self._bad + self._good:,} records cannot be read, "
                f"far over the limit of {self._limit:.2%}; reading stopped. The latest is {first['file']}, record {first['position']}: "
                f"{first['reason']} ({first['detail']}). Is it what the source's `kind` says? Correct the source, or take the file out"
            )
        if self._bytes > QUARANTINE_BYTES:
            self._flush(f"{self._key}.{QUARANTINE}.{self._parts:03d}")
            self._parts += 1

    def write(self) -> None:
        """Write what is left."""
        if self._held:
            self._flush(f"{self._key}.{QUARANTINE}" + (f".{self._parts:03d}" if self._parts else ""))

    def _flush(self, key: str) -> None:
        self._output.table(key, pa.concat_tables(self._held), {"role": QUARANTINE})
        self._held, self._bytes = [], 0


def _trial(table: pa.Table, recipe: DocumentsRecipe, source: str, taken: list[int], ledger: Ledger) -> pa.Table:
    """Take a trial's share of the documents and count the others as dropped; `taken` counts over the batches of a group."""
    if recipe.sample < 1:
        chance = fractions(stable_hashes(0, "trial", source, column(table, "id").to_pylist()))
        inside = pa.array(chance < recipe.sample)
        outside = table.filter(pa.compute.invert(inside))
        ledger.drop("outside_sample", outside.num_rows, int(text_sizes(outside).sum()))
        table = table.filter(inside)
    if recipe.limit is not None:
        outside = table.slice(max(recipe.limit - taken[0], 0))
        ledger.drop("outside_limit", outside.num_rows, int(text_sizes(outside).sum()))
        table = table.slice(0, max(recipe.limit - taken[0], 0))
        taken[0] += table.num_rows
    return table


def _first_quarantined(store: ArtifactStore, shards: Sequence[FinishedShard]) -> str:
    """Name the first files that hold quarantined records, each with its first one, and say how many files more. A reason is explained once."""
    told: dict[str, str] = {}
    others: set[str] = set()
    reasons: set[str] = set()
    for one in (o for shard in shards for o in shard.objects if o.meta.get("role") == QUARANTINE):
        table = read_shard(store.storage, one.path, ["file", "position", "reason", "detail"])
        for file in pa.compute.unique(table.column("file")).to_pylist():
            if file in told or len(told) == FILES_NAMED:
                others.add(file)
                continue
            row = table.slice(pa.compute.index(table.column("file"), file).as_py(), 1).to_pylist()[0]
            place = f", record {row['position']:,}" if row["position"] else ""
            detail = "" if row["reason"] in reasons else f" ({row['detail']})"
            reasons.add(row["reason"])
            told[file] = f"{file}{place}: {row['reason']}{detail}"
    more = len(others - set(told))
    rest = f"; and {more:,} more {'file' if more == 1 else 'files'}" if more else ""
    return f"They are in {'; '.join(told.values())}{rest}. " if told else ""


def _check_ids(store: ArtifactStore, shards: Sequence[FinishedShard]) -> None:
    """Raise InputError when there is no document at all, or one id is in two shards (within one, the reader looks)."""
    if shards and not any(shard.ledger.kept.documents for shard in shards):
        files = sum(int(shard.counts.get("files", 0)) for shard in shards)
        lost = Ledger.total(shard.ledger for shard in shards)
        reasons = {reason: tally.documents for reason, tally in {**lost.dropped, **lost.quarantined}.items()}
        raise InputError(
            f"there is no document in {files} files: they are empty, or a trial's sample is too small"
            + (
                f" (records that became none: {', '.join(f'{k} {v}' for k, v in sorted(reasons.items()))})"
                if reasons
                else ""
            )
        )
    objects = [o for shard in shards for o in shard.objects if o.meta.get("role") != QUARANTINE]
    hashes = [id_hashes(column(read_shard(store.storage, o.path, ["id"]), "id")) for o in objects]
    for one, rows in zip(objects, find_duplicates(hashes), strict=True):
        if len(rows):
            ids = column(read_shard(store.storage, one.path, ["id"]), "id").take(pa.array(rows[:5])).to_pylist()
            raise InputError(
                f"document ids occur in more than one file: {', '.join(map(repr, ids))} (in shard {one.key} and an earlier one). "
                f"Ids must be unique within a source: remove the repeated files, or make them two sources"
            )
