"""A source that leaks evaluation items: documents made of questions with their right answers, as a web page might hold them.

`python -m tests.evaluation.planted FOLDER` writes `leak.jsonl` with every tenth item of ARC easy, 60 times each, and recipes for a
corpus that keeps it (decontamination only reports, as the source is exempt), for training and for evaluation:
docs/evaluation.md runs them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from olmo_core.evaluation.benchmarks.definitions import find
from olmo_core.evaluation.benchmarks.export import export
from olmo_core.evaluation.benchmarks.loading import load
from olmo_core.evaluation.items import Item

WORDS = [
    "the",
    "of",
    "and",
    "a",
    "to",
    "in",
    "is",
    "was",
    "for",
    "on",
    "with",
    "as",
    "by",
    "at",
    "from",
    "that",
    "it",
    "an",
    "are",
    "or",
    "be",
    "this",
    "which",
    "had",
    "not",
    "also",
    "has",
]


def statement(item: Item) -> str:
    """An item with its right answer, as it is asked: `Question: ...` and `Answer: ...`."""
    right = item.gold if item.gold is not None else item.golds[0]
    return item.context(0).removeprefix(item.shots).strip() + item.choices[right]


def plant(items: Sequence[Item], path: Path, *, copies: int, together: int = 6, filling: int = 0, seed: int = 0) -> int:
    """Write documents of `together` items each, so that every item occurs `copies` times; returns how many there are.

    Near duplicates of each other would be taken out: of few items, `filling` random words stand between two of them.
    """
    draws = random.Random(seed)
    statements = [statement(item) for item in items]
    rows: list[str] = []
    for _ in range(copies):
        order = draws.sample(statements, len(statements))
        for i in range(0, len(order), together):
            parts = [f"{one}\n\n{' '.join(draws.choices(WORDS, k=filling))}".strip() for one in order[i : i + together]]
            rows.append("\n\n".join(parts))
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"id": f"leak-{i}", "text": text, "source": "leak"}) for i, text in enumerate(rows))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(rows)


CORPUS = """\
name: leaky
seed: 3920
shard_bytes: 2000000
quarantine_limit: 0.001
floor: 0.2
language: {{model: lid.176.ftz, language: en}}
content: {{kind: lexicon}}
pii: {{definition: fixed}}
near_duplicates: {{threshold: 0.8, signature: {{shingle_words: 5, bands: 20, rows: 6, seed: 1}}}}
decontamination:
  sets:
{sets}
  exempt: [leak]                # it stays, and the report says what it holds
mixing: {{mask_pii: true, min_bytes: 32}}
tokens: {{tokenizer: olmo-tokenizer, shard_tokens: 2000000}}
held_out: [{{name: validation, fraction: 0.08}}]
sources:
  - read: {{kind: environment, name: prose, part: prose, max_bytes: {prose}}}
    rules: [{{name: language, column: target_score, drop_if: "<", value: 0.5}}]
  - read: {{kind: dolma-jsonl, name: leak, paths: ["{folder}/leak.jsonl"]}}
    rules: []
"""
SET = '    - {{name: {name}, kind: jsonl, paths: ["{folder}/benchmarks/{name}.jsonl"], fields: [{fields}], rules: [ngrams]}}'
TRAINING = """\
name: leaky
model: {preset: tiny, width: 96, layers: 3, mlp_width: 256}
tokens: 180000
batch: 4
data: {sequence_length: 128}
optimizer: {learning_rate: 4.0e-3, eps: 1.0e-8}
schedule: {kind: cosine, warmup: 30, anneal_steps: 0}
"""
EVALUATION = """\
name: leaky
benchmarks: [arc_easy, {name: sciq, limit: 200}, copa, {name: piqa, limit: 200}]
domains: [{name: held-out, corpus: corpus/leaky-validation, tokens: 20000}]
"""
SETS = ("arc_easy", "sciq")


def main(folder: Path) -> None:
    """Write the source and the recipes."""
    export(SETS, str(folder / "benchmarks"))
    dirty = load(find("arc_easy")).items[::10]
    documents = plant(dirty, folder / "leak.jsonl", copies=60)
    sets = "\n".join(SET.format(name=name, folder=folder, fields="question") for name in SETS)
    (folder / "corpus.yaml").write_text(CORPUS.format(sets=sets, folder=folder, prose=600_000))
    (folder / "train.yaml").write_text(TRAINING)
    (folder / "evaluation.yaml").write_text(EVALUATION)
    print(f"{len(dirty)} items in {documents} documents in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
