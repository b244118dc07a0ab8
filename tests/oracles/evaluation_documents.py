"""The documents whose rolling log-likelihood is compared with lm-eval's: no text of them is stored, both sides make them.

The standard library only: used by the tests, and by a script in lm-eval's environment.
"""

from __future__ import annotations

from collections.abc import Sequence


def documents(licence: str, passages: Sequence[str]) -> dict[str, str]:
    """Texts of one token to several contexts, of this project's licence and of BoolQ's passages."""
    return {
        "word": "word",
        "line feeds": "\n\n\n",
        "passage": passages[0],
        "letters": "Übergrößenträger, 東京都, Ελλάδα, \U0001f9d1\U0001f3fd\u200d\U0001f680 e\u0301. " * 9,
        "passages": "\n\n".join(passages[1:12]),
        "licence": licence,
        "end": licence[-2500:],
        "rows of a table": "".join(f"| {i:03d} | {i * i} | {'x' * (i % 7)} |\n" for i in range(160)),
    }
