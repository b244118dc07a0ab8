"""What every stage makes of twenty fixed documents, as digests; `python -m tests.golden_stages` writes them anew.

The digests are logical (names, types and values of the rows), so they do not depend on how a library writes Parquet.
They do depend on the stages before: only the first stage that differs is at fault.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.workers import Workers
from tests.small_corpus import build_all, load, record, write_jsonl

GOLDEN = Path(__file__).parent / "golden" / "stage_digests.json"

MODULES = {
    "inventory": "INVENTORY_VERSION in olmo_core/curation/steps/inputs.py",
    "documents": "DOCUMENTS_VERSION in olmo_core/curation/steps/inputs.py",
    "language": "VERSION in olmo_core/curation/language.py",
    "quality": "VERSION in olmo_core/curation/quality.py",
    "content": "VERSION in olmo_core/curation/content.py",
    "pii": "VERSION in olmo_core/curation/pii.py",
    "signatures": "VERSION in olmo_core/curation/signatures.py",
    "selection": "VERSION in olmo_core/curation/steps/selection.py",
    "near-duplicates": "VERSION in olmo_core/curation/near_duplicates.py",
    "mixture": "VERSION in olmo_core/curation/steps/mixture.py",
    "mixing": "VERSION in olmo_core/curation/steps/mixing.py",
    "tokenization": "TOKENIZATION_VERSION in olmo_core/curation/steps/tokens.py",
    "packing": "PACKING_VERSION in olmo_core/curation/steps/tokens.py",
    "report": "VERSION in olmo_core/curation/steps/report.py",
}
"""Where each stage's version stands."""

_MOON = (
    "The moon has no light of its own. What we see from the earth is sunlight that its dusty ground throws back, and as it "
    "goes round us in about a month we look at more and then at less of the side that is lit. That is all there is to its "
    "phases, and people who could not read knew it well enough to plan a journey or a harvest by them."
)
_BREAD = (
    "To make bread you need flour, water, salt and time. Mix them until no dry flour is left, and leave the dough alone for "
    "half an hour. Fold it a few times, let it rise until it has grown by half, and be gentle with it when you shape it. "
    "The oven should be as hot as it gets; steam in the first minutes keeps the crust soft while the loaf opens."
)
_TRAIN = (
    "He had missed the last train, so he sat on the bench under the clock and waited for the first one. A fox came out of "
    "the hedge, looked at him without much interest and went on along the rails. Toward four it began to rain, and he was "
    "glad of the roof and of the bag that he had been too lazy to check in."
)

WEB = [
    ("moon", _MOON),
    ("bread", _BREAD),
    ("train", _TRAIN),
    ("train-copy", _TRAIN),
    ("moon-edited", _MOON.replace("dusty", "grey")),
    (
        "mail",
        f"Questions go to ada.lovelace@example.com or (555) 867-5309; the server is 198.51.100.23 today. {_BREAD}",
    ),
    (
        "many-mails",
        " ".join(f"person{i}@example.org" for i in range(8))
        + " are the people that you should have with you. "
        + _TRAIN,
    ),
    (
        "german",
        "Der Mond hat kein eigenes Licht. Was wir sehen, ist das Licht der Sonne, das sein Staub zurückwirft. " * 3,
    ),
    ("japanese", "月は自ら光を放たない。私たちが見ているのは、太陽の光である。" * 6),
    ("short", "This is a short text."),
    ("bullets", "\n".join(f"- item {i} of the list that has no end" for i in range(12))),
    ("hashes", "# one # two # three # four\n" * 8),
    ("code", "def mean(values):\n    total = sum(values)\n    return total / len(values) if values else 0.0\n" * 3),
    ("nul", f"A page with \0 in it, and a \u2028 separator. {_TRAIN[:200]}"),
    ("special", f"It says <|endoftext|> and |||IP_ADDRESS||| and goes on. {_BREAD[:220]}"),
    ("marks", f"Cafe\u0301 and café, Straße, ﬁne, Ⅳ, १२, 👩‍👩‍👧. {_MOON[:240]}"),
    ("profane", f"What the hell, damn it, this is shit. {_TRAIN[:150]}"),
]
BOOKS = [
    ("moon", _MOON + " The far side has phases too."),
    ("spaces", ("word  word   word" + " " * 30 + "end\n\n\n\t\t") * 6 + _BREAD[:120]),
    ("lines", "\n".join([_TRAIN[:110], "", "so", _BREAD[:130], "no end", _MOON[:100]])),
]
RULES = [
    {"name": "language", "column": "target_score", "drop_if": "<", "value": 0.5},
    {"name": "too_few_words", "column": "gopher_word_count", "drop_if": "<", "value": 20},
    {"name": "symbols", "column": "gopher_symbol_to_word_ratio", "drop_if": ">", "value": 0.1},
    {"name": "personal_data", "column": "pii_count", "drop_if": ">", "value": 5},
]
SOURCES: list[dict[str, Any]] = [
    {"read": {"kind": "dolma-jsonl", "name": "web"}, "rules": RULES},
    {"read": {"kind": "dolma-jsonl", "name": "books", "priority": 1}, "repeat": 1.5},
]
RECIPE: dict[str, Any] = {
    "name": "golden",
    "content": {"kind": "lexicon"},
    "mixing": {"min_bytes": 20, "remove": [{"column": "c4_lines_with_too_few_words_spans"}]},
    "tokens": {"shard_tokens": 600},
}


def build_stages(folder: Path, workers: Workers, **changes: Any) -> dict[str, Manifest]:
    """Build the chain over the fixed documents below an empty folder; returns the manifests by `stage/source`.

    `changes` are fields of the recipe, for stages that the plain recipe does not have.
    """
    for name, documents in (("web", WEB), ("books", BOOKS)):
        path = write_jsonl(folder / name / f"{name}.jsonl", [record(i, text) for i, text in documents])
        os.utime(path, ns=(10**18, 10**18))  # the inventory records the time
    recipe = load(
        folder,
        RECIPE
        | changes
        | {
            "sources": [
                one | {"read": one["read"] | {"paths": [f"{folder}/{one['read']['name']}/*"]}} for one in SOURCES
            ]
        },
    )
    return {
        label: built.manifest
        for label, built in build_all(ArtifactStore(str(folder / "store")), recipe, workers).items()
    }


def digests(manifests: dict[str, Manifest]) -> dict[str, dict[str, Any]]:
    """Return each stage's version and one digest over the digests of its objects, in chain order."""
    return {
        label: {
            "version": manifest.version,
            "digest": hashlib.sha256(
                json.dumps([[o.key, o.rows, o.digest] for o in manifest.objects]).encode()
            ).hexdigest(),
        }
        for label, manifest in manifests.items()
    }


def main() -> None:
    """Write the golden file."""
    with tempfile.TemporaryDirectory() as folder, Workers(1) as workers:
        found = digests(build_stages(Path(folder), workers))
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(f"wrote {GOLDEN}: {len(found)} stages\n")


if __name__ == "__main__":
    main()
