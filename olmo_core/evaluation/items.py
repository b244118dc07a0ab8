"""What a benchmark asks a model, in one form for all of them: an item, its contexts, its choices, the right one.

The templates (`olmo_core.evaluation.benchmarks`) make items of a benchmark's rows; the scoring engine reads them; the
metrics compare what it found with `gold`. Nothing here knows about tokens. Nothing here imports torch.

How a context and a continuation become tokens is the encoder's (`Encoder.pairs`); every continuation
begins with one space, except where a benchmark says otherwise.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from olmo_core.errors import InputError, RecipeError

Format = Literal["catwalk", "in_loop"]
"""Whose prompts and primary metric: AI2's Catwalk, which made the OLMo paper's tables, or OLMo's own trainer."""
Metric = Literal["acc_raw", "acc_per_token", "acc_per_char", "acc_per_byte", "acc_uncond", "mc2", "exact_match"]
"""Which choice wins: the highest log-likelihood as it is; divided by tokens, characters or bytes of the continuation
(its leading space counts in Catwalk, and does not in the in-loop format; see `Benchmark.count_leading_space`); minus that
under the unconditional context. `mc2`: probability mass of the right choices; `exact_match`: of a generated answer."""
Problem = Literal["empty_choice"]
"""Why an item cannot be scored: counted, never scored."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One question."""

    id: str
    """Unique in its benchmark: the native id where there is one, else the row's number; `subject/row` with clusters."""
    contexts: tuple[str, ...]
    """One for all choices, or one for each choice (WinoGrande)."""
    choices: tuple[str, ...] = ()
    """Continuations as scored, with their leading space; empty where the answer is generated."""
    gold: int | None = None
    """Index of the right choice; None where several are right, or the answer is generated."""
    golds: tuple[int, ...] = ()
    """Indexes of the right choices where there may be several (TruthfulQA MC2)."""
    answer: str | None = None
    """The right answer in words where it is generated (GSM8K: the number, without commas)."""
    unconditional: str | None = None
    """Context of the unconditional normalisation (`Answer:`), without shots; None where the benchmark has none."""
    shots: str = ""
    """The worked examples before the question: a prefix of every context, the same for all items of a cluster."""
    cluster: str | None = None
    """What items belong together with (MMLU's subject): resampled together in intervals."""
    problem: Problem | None = None
    """Why the item must not be scored; None for a sound one."""

    def context(self, choice: int) -> str:
        """The context of a choice, by its index."""
        return self.contexts[choice if len(self.contexts) > 1 else 0]


@dataclass(frozen=True, kw_only=True)
class GenerationRule:
    """How an answer is generated and read."""

    stop: tuple[str, ...]
    """Text ends before the first of them."""
    max_tokens: int
    """Tokens generated at most."""
    answer: Literal["last_number"]
    """`last_number`: the last number in the text, commas removed."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The definition of a benchmark: how its rows become items, and which number of it counts."""

    name: str
    """`arc_challenge`, ..."""
    version: int
    """Counts up whenever a template's output changes: numbers of two versions are not comparable."""
    format: Format
    """Whose prompts and whose primary metric."""
    primary: Metric
    """The number to report; the others are made too, where they exist."""
    split: str
    """Split of the data that the items are."""
    documents: int
    """Items that the whole split makes."""
    shots: int = 0
    """Worked examples before each question."""
    count_leading_space: bool = True
    """Whether `acc_per_char` and `acc_per_byte` count the continuation's leading space (Catwalk: yes, in-loop: no)."""
    average: Literal["items", "clusters"] = "items"
    """Whether every item weighs the same, or every cluster (Catwalk's MMLU: the mean of 57 subjects)."""
    generation: GenerationRule | None = None
    """How the answer is generated; None where choices are ranked."""
    description: str = ""
    """For people, one line."""

    @property
    def key(self) -> str:
        """Name, format and version in one word: `arc_easy:catwalk:1`."""
        return f"{self.name}:{self.format}:{self.version}"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which items of a benchmark are asked."""

    limit: int | None = None
    """Items at most; None for all."""
    seed: int | None = 1234
    """Seed of the sample that `limit` takes, as Catwalk's `random_subsample_seed`; None: the first `limit` items."""
    shots: int | None = None
    """Worked examples before each question; None for as many as the benchmark's definition has."""
    shots_seed: int = 18830087
    """Seed by which examples are drawn where the benchmark fixes none; Catwalk's default."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise RecipeError(f"limit of a benchmark is {self.limit}: give 1 or more, or none for all items")
        if self.shots is not None and self.shots < 0:
            raise RecipeError(f"shots of a benchmark are {self.shots}: give 0 or more, or none for its own number")


@dataclass(frozen=True, kw_only=True)
class Items:
    """The items of a benchmark that are asked, with what says where they came from."""

    benchmark: Benchmark
    selection: Selection
    items: tuple[Item, ...]
    population: int
    """Items of the split that these were chosen from."""
    files: Mapping[str, str]
    """sha256 of each data file read, by asset name: part of the fingerprint."""
    handmade: bool = False
    """The data is not the benchmark's own but a stand-in in its schema: no number of it may be published as its score."""

    @property
    def problems(self) -> dict[str, int]:
        """How many items cannot be scored, by reason."""
        return dict(Counter(item.problem for item in self.items if item.problem is not None))


def checked(item: Item, where: str) -> Item:
    """The item, or InputError where its right choice or its contexts cannot be: the file is not what it should be."""
    count = len(item.choices)
    if len(item.contexts) not in (1, count) or not item.contexts:
        raise InputError(f"{where}: item {item.id} has {len(item.contexts)} contexts for {count} choices")
    if item.answer is not None:
        return item
    if count < 2:
        raise InputError(f"{where}: item {item.id} has {count} choices; at least 2 are needed")
    for gold in (item.gold,) if item.gold is not None else item.golds:
        if not 0 <= gold < count:
            raise InputError(f"{where}: item {item.id} has the right choice {gold}, but {count} choices (from 0)")
    if item.gold is None and not item.golds:
        raise InputError(f"{where}: item {item.id} says no right choice; is the file a split without labels?")
    return item


def check_ids(items: Iterable[Item], where: str) -> None:
    """InputError where two items have one id."""
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise InputError(f"{where}: two items have the id {item.id}")
        seen.add(item.id)


def digest(items: Iterable[Item]) -> str:
    """The sha256 of all that items say: what a template made of a file, whatever the file's format."""
    found = hashlib.sha256()
    for item in items:
        parts = (item.id, item.contexts, item.choices, item.gold, item.golds, item.answer, item.unconditional)
        line = json.dumps([*parts, item.cluster, item.problem], ensure_ascii=False)
        found.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return found.hexdigest()


class Baselines(NamedTuple):
    """Accuracy without a model, over the items that can be scored and have one right choice."""

    random: float
    """Expected when every choice is as likely: the mean of 1 / choices."""
    majority: float
    """When the index that is right most often is always chosen."""


def baselines(items: Sequence[Item]) -> Baselines | None:
    """What guessing reaches; None where no item has one right choice (TruthfulQA MC2, generation)."""
    scored = [item for item in items if item.gold is not None and item.problem is None]
    if not scored:
        return None
    golds = Counter(item.gold for item in scored)
    return Baselines(
        random=sum(1 / len(item.choices) for item in scored) / len(scored), majority=max(golds.values()) / len(scored)
    )


Row = Mapping[str, Any]
"""One row of a benchmark's file, as its columns or JSON keys have it."""
