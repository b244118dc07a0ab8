"""A small model whose tokens are bytes, in a Hugging Face folder with its tokenizer; texts for it; and an EVAL.json."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.evaluation.stage import read_results
from olmo_core.model.config import ModelRecipe
from olmo_core.model.hugging_face import export_hugging_face, model_source
from tests.evaluation.models import tiny

ROOT = Path(__file__).resolve().parents[2]
SHAPE = ModelRecipe(
    width=32, layers=2, heads=2, mlp_width=32, vocabulary=257, embedding_rows=260, context=128, end_of_text_id=256
)
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "a",
    "is",
    "that",
    "for",
    "it",
    "as",
    "was",
    "with",
    "be",
    "by",
    "on",
    "not",
    "he",
    "his",
    "but",
    "at",
    "are",
    "this",
    "have",
    "from",
]


def byte_tokenizer(path: Path) -> Path:
    """Write a tokenizer whose tokens are bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>"])
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save(str(path))
    return path


def model_folder(folder: Path) -> Path:
    """Write a model."""
    tokenizer = byte_tokenizer(folder.parent / "bytes.json")
    export_hugging_face(SHAPE, model_source(tiny(4, SHAPE)), folder, tokenizer=tokenizer)
    return folder


def texts(folder: Path, documents: int, words: int) -> Path:
    """Write a folder of one domain."""
    rng = random.Random(5)
    folder.mkdir(parents=True)
    rows = [{"id": str(i), "text": " ".join(rng.choices(WORDS, k=words))} for i in range(documents)]
    (folder / "words.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def evaluation(folder: Path, name: str, model: Path, domain: Path, **resources: Any) -> Path:
    """Write an EVAL.json with a store and a cache of its own."""
    values = {
        "store": str(folder / name / "store"),
        "models": [str(model)],
        "recipe": {
            "name": "small",
            "stand_in": True,
            "benchmarks": [{"name": "truthfulqa_mc2", "limit": 4}],
            "domains": [{"name": "text", "folder": str(domain)}],
        },
        "resources": {"device": "cpu", "scores": str(folder / name / "scores"), **resources},
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(values))
    return path


def start(run: Path, ranks: int = 1) -> subprocess.Popen[str]:
    """Start the evaluating process, or torchrun with so many."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    command = [sys.executable, *torchrun, "-m", "olmo_core.evaluation", str(run)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def numbers(run: Path) -> dict[str, Any]:
    """What the evaluation of an EVAL.json found, by shard; `work` apart."""
    store = ArtifactStore(json.loads(run.read_text())["store"])
    (manifest,) = store.finished("evaluation")
    return read_results(store, manifest)
