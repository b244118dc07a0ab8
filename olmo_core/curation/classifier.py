"""Trains a fastText classifier of sentences from labelled texts, the same bytes each time, and measures it.

The library trains in a child process of its own, with one thread, and with one setting that matters: fastText 0.9.2
fills only the first tenth of its input matrix when it has one thread and leaves the rest as the allocator gave it
(`DenseMatrix::uniformThread`). In a process that has freed memory before, that is garbage: another model each time, or
"Encountered NaN". With `MALLOC_MMAP_THRESHOLD_` set, glibc takes such blocks fresh from the kernel, as zeros.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.curation.classifier_metrics import THRESHOLDS, evaluate
from olmo_core.curation.classifier_text import (
    PREFIX,
    Reads,
    negative_label,
    prepared,
    span_scores,
)
from olmo_core.curation.fasttext_model import FastTextModel
from olmo_core.curation.sampling import fractions, stable_hashes
from olmo_core.curation.sentences import split_sentences
from olmo_core.errors import InputError, RecipeError
from olmo_core.kernels.buffers import text_buffers

VERSION = 1
"""Bumped when the same data and recipe give another model or other metrics."""

ZEROED_FROM = 16384
"""Bytes from which a block of the child's memory comes fresh from the kernel; the smallest matrix allowed has more."""

_TRAIN = """
import json, sys, fasttext
order = json.load(sys.stdin)
model = fasttext.train_supervised(input=order["lines"], thread=1, verbose=0, **order["settings"])
if order["quantize"]:
    model.quantize(input=order["lines"], qnorm=True, thread=1, verbose=0)
model.save_model(order["model"])
"""


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe:
    """What decides a trained classifier, beside the labelled data."""

    label: str = "toxic"
    """Name of the positive label in the model; letters, digits, `_` and `-`."""
    reads: Reads = "words"
    """How texts are prepared; see `classifier_text`. The model carries it."""
    held_out: float = 0.2
    """Share of the examples, chosen by hash of the prepared text, that is measured on and not trained on."""
    threshold: float = 0.5
    """Score from which the reported precision, recall and F1 count an example as found."""
    balance: bool = True
    """Repeat examples of the rarer label, a whole number of times, until both are about equally frequent."""
    background_sentences: int = 15_000
    """Sentences of ordinary text, if given, that are added as negatives. Without them a classifier trained on tweets
    takes 7 to 9% of the sentences of documentation, licences and code for toxic at 0.4; with them under 0.5%."""
    dim: int = 16
    """Length of the vectors, at least 4."""
    epochs: int = 5
    """Passes over the data."""
    rate: float = 0.1
    """Learning rate at the beginning; it falls to 0."""
    word_ngrams: int = 2
    """Longest word n-gram with a vector; 2 is what Dolma's classifiers have."""
    buckets: int = 100_000
    """Hash buckets for n-grams, at least 1,000."""
    fewest: int = 1
    """Words seen less often than this have no vector."""
    quantize: bool = False
    """Write a quantized model (.ftz), about a tenth of the size."""
    seed: int = 1
    """Seed of the split, the order of the examples and the vectors."""

    def __post_init__(self) -> None:
        """Raise RecipeError for values out of range."""
        if not self.label or not self.label.replace("-", "").replace("_", "").isalnum() or not self.label.isascii():
            raise RecipeError(f"classifier label {self.label!r}: use ASCII letters, digits, '-' and '_'")
        if not 0.01 <= self.held_out <= 0.9:
            raise RecipeError(f"classifier held_out {self.held_out}: give a share between 0.01 and 0.9")
        if not 0 < self.threshold < 1:
            raise RecipeError(f"classifier threshold {self.threshold}: give a score between 0 and 1")
        for name, least in (
            ("dim", 4),
            ("epochs", 1),
            ("word_ngrams", 1),
            ("buckets", 1000),
            ("fewest", 1),
        ):
            if getattr(self, name) < least:
                raise RecipeError(f"classifier {name} {getattr(self, name)}: give at least {least}")
        if self.rate <= 0 or self.background_sentences < 0:
            raise RecipeError("classifier rate must be above 0, and background_sentences not negative")


@dataclass(frozen=True, kw_only=True)
class TrainedClassifier:
    """A model file and what it is worth."""

    model: bytes
    """Content of the fastText file; equal bytes for equal data and recipe on one machine and library version."""
    suffix: str
    """`.bin`, or `.ftz` when quantized."""
    label: str
    """Positive label, without prefix: what a recipe of the content stage names."""
    metrics: dict[str, Any]
    """JSON values: `held_out` (see `classifier_metrics.evaluate`), `training` (what was trained on), `background`."""

    @property
    def sha256(self) -> str:
        """Digest of the model file."""
        return hashlib.sha256(self.model).hexdigest()


def train(
    texts: pa.LargeStringArray,
    positive: npt.NDArray[np.bool_],
    recipe: ClassifierRecipe,
    *,
    background: pa.LargeStringArray | None = None,
) -> TrainedClassifier:
    """Train on most of the texts (n,) with their truth (n,), measure on the rest, and return both.

    `background`: documents of ordinary text, from whose sentences a sample becomes further negatives, one part of it
    held out too. Texts that are equal once prepared are on the same side of the split. The order of the input does not
    matter. Raises InputError when a side of the split lacks a label or the library fails.
    """
    if len(texts) != len(positive):
        raise ValueError(f"{len(texts)} texts but {len(positive)} labels")
    lines = prepared(texts, recipe.reads)
    held = _held_out(lines, recipe)
    _check_both_labels(positive, held, recipe)
    usual, usual_held = _background(background, recipe)
    training = _training_lines(lines, positive, held, usual.filter(pa.array(~usual_held)).to_pylist(), recipe)
    content = _train(training, recipe)
    with tempfile.TemporaryDirectory(prefix="classifier-") as folder:
        path = Path(folder) / "model"
        path.write_bytes(content)
        model = FastTextModel.from_file(path)
        scores = _scores(model, recipe.label, texts.filter(pa.array(held)))
        usual_scores = _scores(
            model,
            recipe.label,
            pa.array([usual[i] for i in np.flatnonzero(usual_held)], pa.large_string()),
        )
    metrics = {
        "held_out": evaluate(scores, positive[held], threshold=recipe.threshold, seed=recipe.seed),
        "training": {
            "examples": int((~held).sum()),
            "positives": int((positive & ~held).sum()),
            "background": int((~usual_held).sum()),
            "lines": len(training),
        },
        "background": {
            "sentences": len(usual_scores),
            "flagged": {f"{t:g}": float((usual_scores >= t).mean()) if len(usual_scores) else None for t in THRESHOLDS},
        },
    }
    return TrainedClassifier(
        model=content,
        suffix=".ftz" if recipe.quantize else ".bin",
        label=recipe.label,
        metrics=metrics,
    )


def _held_out(lines: Sequence[str], recipe: ClassifierRecipe) -> npt.NDArray[np.bool_]:
    return fractions(stable_hashes(recipe.seed, "held-out", "", lines)) < recipe.held_out


def _check_both_labels(
    positive: npt.NDArray[np.bool_],
    held: npt.NDArray[np.bool_],
    recipe: ClassifierRecipe,
) -> None:
    for side, chosen in (("to train on", ~held), ("held out", held)):
        for label, of_label in (
            (recipe.label, positive),
            (f"not {recipe.label}", ~positive),
        ):
            if not (chosen & of_label).any():
                raise InputError(
                    f"of {len(positive)} labelled texts {int(of_label.sum())} are {label}, and none of them is {side};"
                    " a classifier needs both labels on both sides: give more data, or check which classes are positive"
                )


def _background(
    texts: pa.LargeStringArray | None, recipe: ClassifierRecipe
) -> tuple[pa.LargeStringArray, npt.NDArray[np.bool_]]:
    """Different prepared sentences with at least one word, sampled by hash, and which of them are held out."""
    if texts is None or recipe.background_sentences == 0:
        return pa.array([], pa.large_string()), np.zeros(0, bool)
    found = split_sentences(texts)
    spans = zip(found.starts, found.ends, strict=True)
    sentences = pa.array([found.text[a:b].tobytes() for a, b in spans], pa.large_binary()).cast(pa.large_string())
    lines = sorted({line for line in prepared(sentences, recipe.reads) if line})
    order = np.argsort(stable_hashes(recipe.seed, "background", "", lines), kind="stable")
    chosen = [lines[i] for i in order[: recipe.background_sentences]]
    return pa.array(chosen, pa.large_string()), _held_out(chosen, recipe)


def _training_lines(
    lines: Sequence[str],
    positive: npt.NDArray[np.bool_],
    held: npt.NDArray[np.bool_],
    background: Sequence[str],
    recipe: ClassifierRecipe,
) -> list[str]:
    """The training file's lines in an order that depends on nothing but the lines and the seed."""
    counts = [int((~held & ~positive).sum()), int((~held & positive).sum())]
    copies = [max(1, round(max(counts) / count)) if recipe.balance else 1 for count in counts]
    names = [PREFIX + negative_label(recipe.label, recipe.reads), PREFIX + recipe.label]
    out = [f"{names[0]} {line}" for line in background]
    numbers = [0] * len(out)
    for line, truth, out_of_sight in zip(lines, positive.tolist(), held.tolist(), strict=True):
        if line and not out_of_sight:
            out += [f"{names[truth]} {line}"] * copies[truth]
            numbers += range(copies[truth])
    hashes = stable_hashes(recipe.seed, "order", "", out, numbers).tolist()
    return [line for _, line in sorted(zip(hashes, out, strict=True))]


def _train(lines: Sequence[str], recipe: ClassifierRecipe) -> bytes:
    """The model file that the library makes of the lines, in a process of its own (see the top of this module)."""
    with tempfile.TemporaryDirectory(prefix="classifier-") as folder:
        data, model = Path(folder) / "lines.txt", Path(folder) / "model"
        data.write_text("".join(line + "\n" for line in lines), encoding="utf-8", newline="\n")
        order = {
            "lines": str(data),
            "model": str(model),
            "quantize": recipe.quantize,
            "settings": {
                "dim": recipe.dim,
                "epoch": recipe.epochs,
                "lr": recipe.rate,
                "wordNgrams": recipe.word_ngrams,
                "bucket": recipe.buckets,
                "minCount": recipe.fewest,
                "loss": "softmax",
                "seed": recipe.seed,
            },
        }
        done = subprocess.run(
            [sys.executable, "-c", _TRAIN],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(ZEROED_FROM)},
        )
        if done.returncode or not model.is_file():
            why = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise InputError(
                f"fastText could not train on {len(lines)} lines (exit code {done.returncode}): {why}. A lower rate helps"
                " against NaN; ModuleNotFoundError means that fasttext-numpy2-wheel is not installed"
            )
        return model.read_bytes()


def _scores(model: FastTextModel, label: str, texts: pa.LargeStringArray) -> npt.NDArray[np.float32]:
    text, offsets = text_buffers(texts)
    return span_scores(model, label, text, offsets[:-1], offsets[1:])
