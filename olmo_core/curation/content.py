"""TEMPORARY stub by the lead so that the chain runs; the content helper overwrites this file."""
from __future__ import annotations
from dataclasses import dataclass
from typing import Any, Literal
import pyarrow as pa
VERSION = 0
@dataclass(frozen=True, kw_only=True)
class ContentRecipe:
    kind: Literal["lexicon"] = "lexicon"
def assets_of(own: Any) -> list[str]:
    return []
def tag(texts: pa.LargeStringArray, own: ContentRecipe) -> pa.RecordBatch:
    import numpy as np
    return pa.RecordBatch.from_arrays([pa.array(np.zeros(len(texts)))], names=["lexicon_ratio"])
