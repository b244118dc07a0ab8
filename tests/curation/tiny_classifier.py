"""A small classifier for tests, and the reference of how words are prepared."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.curation.classifier import ClassifierRecipe, TrainedClassifier, train
from olmo_core.curation.classifier_text import Reads

KIND = ["you are a lovely person", "what a kind and lovely day", "thank you my good friend", "the sun is warm today"]
RUDE = ["you are a nasty grumblenut", "what a nasty zonking day", "go away you grumblenut", "zonk you and your dog"]


def examples(copies: int = 30) -> tuple[pa.LargeStringArray, npt.NDArray[np.bool_]]:
    """Different short texts, a third of them rude."""
    texts = [f"{text.title()}, number {i}!" for i in range(copies) for text in (*RUDE, *KIND, *KIND)]
    return pa.array(texts, pa.large_string()), np.array(([True] * 4 + [False] * 8) * copies)


def tiny(reads: Reads = "words", *, quantize: bool = False) -> TrainedClassifier:
    """Train on the examples, in about a second."""
    recipe = ClassifierRecipe(label="rude", reads=reads, buckets=1000, dim=4, epochs=20, rate=0.5, quantize=quantize)
    return train(*examples(), recipe)


def words_reference(text: str) -> str:
    """What `kernels.sentences_words` makes of a text, by regular expressions."""
    text = re.sub(
        r"(?i)(?<![^\x00-\x20])(?:@(?=[a-z0-9\x80-\U0010ffff])|http|www\.)[^\x00-\x20]*", " ", text, flags=re.A
    )
    text = re.sub(r"&[A-Za-z0-9#]{1,8};", " ", text)
    text = re.sub(r"[\u0080-\u00bf\u2000-\u2018\u201a-\u203f\u3000-\u303f]", " ", text).replace("\u2019", "'")
    text = re.sub(r"[\x00-\x7f]", lambda m: m[0].lower() if m[0].isalnum() or m[0] == "'" else " ", text)
    return " ".join(re.sub(r"(?<![^ '])'|'(?![^ '])", " ", text).split(" ")).strip(" ").replace("  ", " ")
