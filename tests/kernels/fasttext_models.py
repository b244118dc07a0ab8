"""Small fastText models trained on the text of this Python installation, for tests of the compiled inference.

Run as a program in a process of its own, `python -m tests.kernels.fasttext_models FOLDER`, with `MALLOC_PERTURB_=255`,
because the library as it is packaged (fasttext-numpy2-wheel 0.9.2) does not initialize nine tenths of a new input
matrix when it trains with one thread: training is not repeatable, and in a process that has freed memory before it
often ends with "Encountered NaN". With that variable glibc hands out all memory filled with zeros.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zlib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

MODELS: dict[str, dict[str, Any]] = {
    # like Dolma's Jigsaw classifiers: two labels, word bigrams
    "toxic.bin": {"loss": "softmax", "dim": 100, "wordNgrams": 2, "minn": 0, "maxn": 0},
    # like lid.176: many labels, character n-grams, hierarchical softmax, quantized and pruned
    "languages.ftz": {"loss": "hs", "dim": 16, "wordNgrams": 1, "minn": 2, "maxn": 4},
    "tree.bin": {"loss": "hs", "dim": 10, "wordNgrams": 3, "minn": 3, "maxn": 3},
    "each.bin": {"loss": "ova", "dim": 20, "wordNgrams": 1, "minn": 0, "maxn": 2},
    "words.ftz": {"loss": "softmax", "dim": 19, "wordNgrams": 2, "minn": 2, "maxn": 3, "bucket": 1000},
    "plain.bin": {"loss": "ns", "dim": 16, "wordNgrams": 1, "minn": 0, "maxn": 0},
}
QUANTIZED: dict[str, dict[str, Any]] = {
    "languages.ftz": {"cutoff": 3000, "qnorm": True},
    "words.ftz": {"qout": True, "qnorm": True, "dsub": 2},
}
LABELS = {"toxic.bin": 2, "plain.bin": 2, "languages.ftz": 40, "tree.bin": 7, "each.bin": 5, "words.ftz": 300}
"""A quantized output matrix needs 256 rows at least."""

VECTORS = "vectors.bin"
"""Word vectors, so not a classifier."""

ENDLESS = "endless.bin"
"""A classifier with labels a and b that does not have the word `</s>`, because minCount is above its count."""

TIES = "ties.bin"
"""A classifier by hierarchical softmax that learned nothing: its eight labels are equally probable."""


def real_texts(limit: int) -> list[str]:
    """Return about `limit` bytes of text of this installation: package descriptions (prose) and modules (code)."""
    texts = [meta for one in distributions() if (meta := one.read_text("METADATA"))]
    library = Path(sysconfig.get_path("stdlib"))
    texts += [path.read_text(encoding="utf-8") for path in sorted(library.glob("*.py"))]
    texts += [path.read_text(encoding="utf-8") for path in sorted((library / "encodings").glob("cp*.py"))]
    texts.sort(key=lambda text: zlib.crc32(text.encode()))
    total = 0
    for number, text in enumerate(texts):
        total += len(text.encode())
        if total > limit:
            return texts[: number + 1]
    return texts


def train_all(folder: Path) -> None:
    """Train and save all models, each from a file of its own."""
    import fasttext

    lines = [" ".join(block.split()) for text in real_texts(1_000_000) for block in text.split("\n\n")]
    lines = [line for line in lines if len(line) > 30][:1000]
    for name, options in MODELS.items():
        labels = [f"l{zlib.crc32(line.split()[0].encode()) % LABELS[name]}" for line in lines]
        labels += [f"l{number}" for number in range(LABELS[name])]
        if LABELS[name] == 2:
            labels = ["toxic" if "self" in line else "non_toxic" for line in lines]
        text = "\n".join(f"__label__{label} {line}" for label, line in zip(labels, lines + lines, strict=False))
        source = folder / f"{name}.txt"
        source.write_text(text + "\n", encoding="utf-8")
        common = {"bucket": 8000, "epoch": 5, "lr": 1.0, "minCount": 2, "thread": 1, "verbose": 0}
        model = fasttext.train_supervised(str(source), **(common | options))
        if name in QUANTIZED:
            model.quantize(input=str(source), **QUANTIZED[name])
        model.save_model(str(folder / name))

    source = folder / "toxic.bin.txt"
    vectors = fasttext.train_unsupervised(str(source), dim=10, bucket=100, epoch=1, thread=1, verbose=0)
    vectors.save_model(str(folder / VECTORS))
    source = folder / f"{ENDLESS}.txt"
    source.write_text("__label__a " + "yes " * 50 + "__label__b " + "no " * 50 + "\n", encoding="utf-8")
    endless = fasttext.train_supervised(
        str(source), minCount=10, dim=10, wordNgrams=2, bucket=1000, thread=1, verbose=0
    )
    endless.save_model(str(folder / ENDLESS))
    source = folder / f"{TIES}.txt"
    source.write_text("".join(f"__label__{label} word\n" for label in "abcdefgh"), encoding="utf-8")
    ties = fasttext.train_supervised(str(source), loss="hs", dim=16, lr=1e-12, epoch=1, thread=1, verbose=0)
    ties.save_model(str(folder / TIES))


def trained(folders: pytest.TempPathFactory) -> Path:
    """Return the folder with all models, which are trained once per test session, in a fresh process."""
    folder = folders.getbasetemp() / "fasttext-models"
    if not folder.exists():
        attempt = folders.mktemp("fasttext-training")
        subprocess.run(
            [sys.executable, "-m", "tests.kernels.fasttext_models", str(attempt)],
            check=True,
            cwd=Path(__file__).resolve().parents[2],
            env=os.environ | {"MALLOC_PERTURB_": "255"},
            timeout=800,
        )
        attempt.rename(folder)
    return folder


if __name__ == "__main__":
    train_all(Path(sys.argv[1]))
