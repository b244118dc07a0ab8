"""What the oracles of the benchmarks say of a peer's questions: counts and hashes, no text.

Imported by the tests and, alone, by scripts in the peers' environments: the standard library only.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any


def document(contexts: Sequence[str], choices: Sequence[str], gold: Any) -> str:
    """One question as a line: a context for each choice, the continuations, the right index (or indexes)."""
    one_each = list(contexts) if len(contexts) == len(choices) else [contexts[0]] * len(choices)
    return json.dumps([one_each, list(choices), gold])


def summary(lines: Iterable[str]) -> dict[str, Any]:
    """Count, histogram of right answers, and a hash that does not depend on the questions' order."""
    ordered = sorted(lines)
    golds = Counter(json.dumps(json.loads(line)[2]) for line in ordered)
    return {
        "documents": len(ordered),
        "golds": dict(sorted(golds.items())) if len(golds) <= 8 else len(golds),
        "sha256": hashlib.sha256("\n".join(ordered).encode()).hexdigest(),
    }
