"""An index of evaluation items made in memory, for tests of the rules alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from olmo_core.curation.contamination import collect
from olmo_core.curation.contamination_verdicts import ITEMS, Index, index_of, judge
from olmo_core.curation.decontamination import DecontaminationRecipe
from olmo_core.curation.evaluation_sets import EvaluationSet


def evaluation_set(name: str = "quiz", **changes: Any) -> EvaluationSet:
    """A set whose files nobody reads."""
    return EvaluationSet(**{"name": name, "kind": "jsonl", "paths": ("x",), **changes})


def index_from(texts: Sequence[str], recipe: DecontaminationRecipe) -> Index:
    """Return the index of one set whose items have the ids `i0`, `i1`, ..."""
    (one,) = recipe.sets
    keys = collect(pa.array(texts, pa.large_string()), recipe, one.rules)
    n = len(texts)
    columns: list[Any] = [[one.name] * n, [f"i{k}" for k in range(n)], ["f"] * n, [None] * n, [0] * n, [0] * n, [0] * n]
    items = pa.table([pa.array(c, f.type) for c, f in zip(columns, ITEMS, strict=True)], schema=ITEMS)
    return index_of(items, keys, (one.name,))


def verdicts_on(
    texts: Sequence[str], items: Sequence[str], recipe: DecontaminationRecipe, **options: Any
) -> list[dict[str, Any]]:
    """Return the verdict on each text, as a row."""
    table, _ = judge(
        pa.array(texts, pa.large_string()), np.ones(len(texts), bool), index_from(items, recipe), recipe, **options
    )
    return table.to_pylist()  # type: ignore[no-any-return]
