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

_SENTENCE = 8
"""Words of a choice, on average: the shortest text that decontamination looks for."""
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


def fields(items: Sequence[Item]) -> tuple[str, ...]:
    """Return what to look for: the question, and the choices too where these are sentences (PIQA, HellaSwag).

    A page that holds a question with its right answer has none of the word sequences from a short question into the first choice.
    """
    words = [len(choice.split()) for item in items for choice in item.choices]
    return ("question", "choices") if words and sum(words) / len(words) >= _SENTENCE else ("question",)


def export(
    names: Sequence[str],
    to: str,
    *,
    format: Format = "catwalk",
    stand_in: bool = False,
    progress: Callable[[str], None] | None = None,
) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Write each benchmark's file into a folder or below an s3:// prefix; returns how many items each has, and its `fields`."""
    storage, written = Storage(to), {}
    for name in names:
        benchmark: Benchmark = definition(name, format).benchmark
        items = load(benchmark, stand_in=stand_in and name == "truthfulqa_mc2", progress=progress).items
        body = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines(items))
        storage.put(f"{name}.jsonl", body.encode("utf-8", "surrogatepass"))
        written[name] = (len(items), fields(items))
    return written
