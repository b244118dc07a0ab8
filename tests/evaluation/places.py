"""A store with a trained run, a tokenizer and texts, so small that evaluating its checkpoints takes a second."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.evaluation.recipe import DomainRecipe, EvaluationRecipe
from olmo_core.train.run_file import DONE
from olmo_core.train.session import train
from tests.train.tiny_run import MODEL, tiny_run

BYTES = replace(MODEL, vocabulary=257, embedding_rows=260, end_of_text_id=256, context=128)
"""A row for every byte, and one for the end of a text."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What tests evaluate."""

    store: ArtifactStore
    tokenizer: Path
    texts: Path
    recipe: EvaluationRecipe
    """The texts' bits per byte: no benchmark's data is needed."""


def byte_tokenizer(path: Path) -> Path:
    """Write a tokenizer whose tokens are bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>"])
    made.save(str(path))
    return path


def place(folder: Path, *, steps: int = 20, save_every: int = 10) -> Place:
    """Train a run of bytes below 60 and write texts beside it."""
    run = tiny_run(folder, steps=steps, save_every=save_every, model=BYTES)
    assert train(run) == DONE
    texts = folder / "texts"
    texts.mkdir()
    for domain in ("blogs", "books"):
        rows = (json.dumps({"id": str(i), "text": f"{domain} {i}: some words. " * (i + 1)}) for i in range(12))
        (texts / f"{domain}.jsonl").write_text("\n".join(rows))
    return Place(
        store=ArtifactStore(run.store),
        tokenizer=byte_tokenizer(folder / "tokenizer.json"),
        texts=texts,
        recipe=EvaluationRecipe(name="texts", domains=(DomainRecipe(name="texts", folder=str(texts)),)),
    )
