"""A configuration with which the toolkit's `mix` makes the decisions that this corpus was made by.

It is for the export's folder: `cd EXPORT; dolma -c SOURCE/mix.json mix`. Thresholds are written as floats, as scores
are: the toolkit's JSONPath does not find `[0, 9, 1.0]` to be `>= 1`, nor `[0, 9, 1]` to be `>= 1.0`, and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from olmo_core.dolma_export.attribute_lines import key, variable

_OUTPUT_BYTES = 2 << 30


def mixer_configuration(
    source: str,
    stages: Sequence[str],
    owners: Mapping[str, str],
    rules: Sequence[Mapping[str, Any]],
    mixing: Mapping[str, Any],
    verdicts: Sequence[str],
    held_out: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the configuration for one source.

    `owners`: stage of each column; `rules` and `mixing`: recipes of the selection and of mixing, as manifests have
    them; `verdicts`: further stages with a column `keep` (near-duplicates), by which documents are dropped too; `held_out`: names of splits that training may not have.
    What it cannot say: how often a source is taken (`repeat`, `share`), which is the toolkit's resharding.
    """
    drop = [_drops(key(owners[r["column"]], r["column"]), r["drop_if"], r["value"]) for r in rules]
    drop += [_drops(key(stage, "keep"), "is", False) for stage in verdicts]
    drop += [f"$.attributes[?(@.{key('splits', 'split')}__{variable(name)})]" for name in held_out]
    replace = []
    for one in mixing["remove"]:
        score = one["at_least"] if one["at_least"] is not None else 0.0
        replace.append(_replacement(key(owners[one["column"]], one["column"]), score, ""))
    for kind, mask in mixing["masks"].items():
        replace.append(_replacement(f"{key('pii', 'pii_spans')}__{kind}", 0.5, mask))
    stream: dict[str, Any] = {
        "name": source,
        "documents": [f"{source}/documents/*.jsonl.gz"],
        "attributes": list(stages),
        "span_replacement": replace,
        "output": {
            "path": f"mixed/{source}/documents",
            "max_size_in_bytes": _OUTPUT_BYTES,
            "discard_fields": ["attributes"],
            "min_text_length": mixing["min_bytes"],
        },
    }
    if drop:
        stream["filter"] = {"exclude": drop}
    return {"streams": [stream], "processes": 1}


def _drops(attribute: str, drop_if: str, value: float | bool) -> str:
    """Return the JSONPath filter that is true for documents a rule drops; a document without the value is not."""
    comparison = "==" if drop_if == "is" else drop_if
    score = f"@.{attribute}[0][2]"
    return f"$.attributes[?(@.{attribute} && @.{attribute}[0] && {score} {comparison} {number(float(value))})]"


def number(value: float) -> str:
    """Return a number with a point and without an exponent."""
    return np.format_float_positional(value, trim="0")


def _replacement(attribute: str, score: float, text: str) -> dict[str, Any]:
    return {"span": f"$.attributes.{attribute}", "min_score": score, "replacement": text}
