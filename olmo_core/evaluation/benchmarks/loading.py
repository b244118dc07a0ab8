"""Items of a benchmark from its files: fetched, read, checked against what is known, sampled, with their examples.

Random sampling is Catwalk's: `Random(seed).sample` over the items in file order. Where Catwalk has a limit for each MMLU
subject, a limit here is for the benchmark.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from random import Random

from olmo_core import assets
from olmo_core.asset_list import ASSETS
from olmo_core.errors import AssetError, InputError, RecipeError
from olmo_core.evaluation.benchmarks import gsm8k, mmlu, truthfulqa
from olmo_core.evaluation.benchmarks.definitions import Definition, Table, definition
from olmo_core.evaluation.benchmarks.rows import read_rows
from olmo_core.evaluation.items import Benchmark, Item, Items, Row, Selection, check_ids, checked, digest

Progress = Callable[[str], None]
STAND_IN = "truthfulqa_stand_in.json"
"""Twelve questions made by hand in TruthfulQA's schema, for machines that cannot have the real file."""


def load(
    benchmark: Benchmark,
    selection: Selection | None = None,
    *,
    own_files: Mapping[str, str | os.PathLike[str]] | None = None,
    stand_in: bool = False,
    progress: Progress | None = None,
) -> Items:
    """The items of a benchmark that `selection` asks.

    `own_files`: path of a file to read in an asset's place, by the asset's name, in any of the forms that `read_rows`
    knows (the hub's Parquet files among them); what it makes must equal what the known file makes. `stand_in`: take the
    hand-made file where the benchmark has one; its numbers are no score, and `Items.handmade` says so.
    AssetError where a file cannot be had, InputError where it is not the known one, RecipeError for a wrong selection.
    """
    selection = selection or Selection()
    found = definition(benchmark.name, benchmark.format)
    if found.benchmark != benchmark:
        raise RecipeError(f"benchmark {benchmark.key} is not the one this version knows, {found.benchmark.key}")
    if stand_in and benchmark.name != "truthfulqa_mc2":
        raise RecipeError(f"benchmark {benchmark.name} has no hand-made stand-in; truthfulqa_mc2 alone has one")
    read: dict[str, str] = {}
    tables: list[tuple[Table, list[Row], list[Row]]] = []
    for table in found.tables:
        examples = _rows((table.examples,), found, own_files, stand_in, progress, read) if table.examples else []
        tables.append((table, _rows(table.assets, found, own_files, stand_in, progress, read), examples))
    items = make_items(found, tables)
    if not stand_in:
        check_known(benchmark, items)
    population = items
    shots = benchmark.shots if selection.shots is None else selection.shots
    if shots != benchmark.shots:
        population = make_items(found, tables, shots=shots, seed=selection.shots_seed)
    return Items(
        benchmark=benchmark,
        selection=selection,
        items=chosen(population, selection),
        population=len(population),
        files=read,
        handmade=stand_in,
    )


def make_items(
    found: Definition,
    tables: Sequence[tuple[Table, Sequence[Row], Sequence[Row]]],
    *,
    shots: int | None = None,
    seed: int = Selection.shots_seed,
) -> tuple[Item, ...]:
    """All items of a benchmark from tables of rows, each with the rows of its examples.

    InputError where a row cannot be an item: the file is another version, and no number of it would be the benchmark's.
    """
    benchmark = found.benchmark
    where = f"benchmark {benchmark.name}"
    wanted = found.shots(shots)
    items: list[Item] = []
    for table, rows, examples in tables:
        made = [_item(found, table, row, index) for index, row in enumerate(rows)]
        items += _with_examples(found, table, made, examples, wanted)
    check_ids(items, where)
    if found.most_shots is None and wanted:
        return _with_drawn(items, wanted, seed, where)
    return tuple(items)


def _item(found: Definition, table: Table, row: Row, index: int) -> Item:
    where = f"benchmark {found.benchmark.name}" + (f", {table.cluster}" if table.cluster else "")
    if table.cluster is not None:
        row = {**row, "subject": table.cluster}
    try:
        item = found.template(row, index, found.benchmark.format)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{where}: row {index} is no item of it ({type(error).__name__}: {error}); another version of the file?"
        ) from None
    return checked(item, where)


def _with_examples(
    found: Definition, table: Table, items: Sequence[Item], examples: Sequence[Row], shots: int
) -> list[Item]:
    """Items with the examples that their benchmark fixes."""
    name, format = found.benchmark.name, found.benchmark.format
    if name == "mmlu" and table.cluster is not None:
        if len(examples) < shots:
            raise InputError(f"benchmark mmlu, {table.cluster}: {len(examples)} rows for {shots} worked examples")
        made = "".join(mmlu.example(row, format) for row in examples[:shots])
        return [_prefixed(item, mmlu.instruction(table.cluster, format) + made) for item in items]
    if name == "gsm8k":
        return [_prefixed(item, gsm8k.prefix(shots, format)) for item in items]
    if name == "truthfulqa_mc2":
        return [_prefixed(item, truthfulqa.PROMPT) for item in items]
    return list(items)


def _with_drawn(items: Sequence[Item], shots: int, seed: int, where: str) -> tuple[Item, ...]:
    """Items after examples drawn from among them; those drawn are not asked.

    Joined as Catwalk joins them, but the same for every item, so that a prefix is computed once. Catwalk draws from the
    training split, which is in none of the places.
    """
    sound = [item for item in items if item.problem is None]
    if shots >= len(sound):
        raise RecipeError(f"{where} has {len(sound)} items: too few for {shots} examples and a question")
    drawn = Random(seed).sample(sound, shots)
    prefix = "".join(
        f"{item.context(item.gold or 0).strip()} {item.choices[item.gold or 0].strip()}\n\n" for item in drawn
    )
    left_out = {item.id for item in drawn}
    return tuple(_prefixed(item, prefix) for item in items if item.id not in left_out)


def _prefixed(item: Item, prefix: str) -> Item:
    return dataclasses.replace(item, contexts=tuple(prefix + context for context in item.contexts), shots=prefix)


def chosen(items: Sequence[Item], selection: Selection) -> tuple[Item, ...]:
    """The items that a selection takes, in the order of the sample, as Catwalk."""
    if selection.limit is None or selection.limit >= len(items):
        return tuple(items)
    if selection.seed is None:
        return tuple(items[: selection.limit])
    return tuple(Random(selection.seed).sample(list(items), selection.limit))


def known_digests() -> Mapping[str, str]:
    """The digest of all items of each benchmark made of the known files, by `Benchmark.key`."""
    return json.loads((files("olmo_core.evaluation.benchmarks") / "digests.json").read_text())  # type: ignore[no-any-return]


def check_known(benchmark: Benchmark, items: Sequence[Item]) -> None:
    """InputError where the items are not those that the known files make."""
    if len(items) != benchmark.documents:
        raise InputError(
            f"benchmark {benchmark.name} has {len(items)} items; its {benchmark.split} split has {benchmark.documents}:"
            " another split or version of the data, or a file that was cut"
        )
    known, made = known_digests()[benchmark.key], digest(items)
    if made != known:
        raise InputError(
            f"benchmark {benchmark.key}: its items have the digest {made[:12]}, those of the known data {known[:12]}: this"
            " is another version of the data, and its numbers could not be compared"
        )


def _rows(
    names: Sequence[str],
    found: Definition,
    own_files: Mapping[str, str | os.PathLike[str]] | None,
    stand_in: bool,
    progress: Progress | None,
    read: dict[str, str],
) -> list[Row]:
    """The rows of the first of some assets that can be had; notes in `read` what was read."""
    if stand_in:
        with as_file(files("olmo_core.evaluation.benchmarks") / STAND_IN) as path:
            read[STAND_IN] = assets.file_sha256(path)
            return read_rows(path, found.columns)
    for name in names:
        if own_files and name in own_files:
            path = Path(own_files[name])
            rows = read_rows(path, found.columns)
            read[name] = assets.file_sha256(path)
            return rows
    path, name = _fetch(names, found.benchmark.name, progress)
    read[name] = assets.identity(name)
    return read_rows(path, found.columns)


def _fetch(names: Sequence[str], benchmark: str, progress: Progress | None) -> tuple[Path, str]:
    for name in names:
        path = assets.cached(ASSETS[name])
        if path is not None:
            return path, name
    failures = []
    for name in names:
        try:
            # a file whose digest nobody knows may be taken: `check_known` compares the items that it makes
            return assets.fetch(name, trust_first_use=ASSETS[name].sha256 is None, progress=progress), name
        except AssetError as error:
            failures.append(str(error))
    hint = ""
    if benchmark == "truthfulqa_mc2":
        hint = "\nA hand-made stand-in in its schema can be asked for (stand_in); its number is no score."
    raise AssetError(f"no data for benchmark {benchmark}:\n" + "\n".join(failures) + hint)
