"""Benchmarks as JSON lines, so that a corpus recipe can name them as decontamination sets: `{name}.jsonl`, a line an item.

A line has `id` (the item's, by which an evaluation finds it again), `question` and `choices`, without the words that all items of a
benchmark share: those would be found wherever any item is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from olmo_core.evaluation.benchmarks.definitions import definition
from olmo_core.evaluation.benchmarks.loading import load
from olmo_core.evaluation.items import Benchmark, Format, Item
from olmo_core.storage import Storage

_LEADING = ("Question: ", "Q: ")
_TRAILING = ("Answer:", "A:")


def lines(items: Sequence[Item]) -> Iterator[Mapping[str, Any]]:
    """Yield the line of each item."""
    for item in items:
        yield {"id": item.id, "question": question(item), "choices": [choice.strip() for choice in item.choices]}


def question(item: Item) -> str:
    """Return an item's question without worked examples and the template's words; where contexts differ (WinoGrande) the resolved sentence."""
    if len(item.contexts) > 1 and item.gold is not None:
        return item.context(item.gold) + item.choices[item.gold]
    text = item.context(0).removeprefix(item.shots).strip()
    for word in _TRAILING:
        text = text.removesuffix(word)
    return "\n".join(_without(line, _LEADING) for line in text.strip().split("\n"))


def _without(line: str, beginnings: Sequence[str]) -> str:
    for one in beginnings:
        if line.startswith(one):
            return line.removeprefix(one)
    return line


def export(
    names: Sequence[str],
    to: str,
    *,
    format: Format = "catwalk",
    stand_in: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, int]:
    """Write each benchmark's file into a folder or below an s3:// prefix; returns how many items each has."""
    storage, written = Storage(to), {}
    for name in names:
        benchmark: Benchmark = definition(name, format).benchmark
        items = load(benchmark, stand_in=stand_in and name == "truthfulqa_mc2", progress=progress).items
        body = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines(items))
        storage.put(f"{name}.jsonl", body.encode("utf-8", "surrogatepass"))
        written[name] = len(items)
    return written
