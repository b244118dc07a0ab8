"""How a fastText classifier reads its text: the same in training and in the chain, and recorded in the model itself.

`line`: the text as it is, line ends as spaces. So were Dolma's Jigsaw classifiers trained.
`words`: lower-case words only (`kernels.sentences_words`), because fastText splits at white space alone and would take
"word", "Word" and "word," for three words.

A classifier that this project trains names its negative label `not-{label}@{reads}`. Whoever uses the model sees from
the part after `@` how to prepare the text; a model without it reads lines. So the two cannot differ.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.curation.fasttext_model import FastTextModel
from olmo_core.curation.fasttext_predict import predict_spans
from olmo_core.errors import InputError
from olmo_core.kernels.buffers import PADDING, text_buffers
from olmo_core.kernels.sentences_words import words_of

PREFIX = "__label__"
"""What fastText's labels begin with."""

Reads = Literal["line", "words"]
"""How the text is prepared."""


_LABEL = re.compile(r"(?<![^ \n\r\t\v\f\0])__label__[^ \n\r\t\v\f\0]*")


def negative_label(label: str, reads: Reads) -> str:
    """The second label of a classifier trained here, without prefix."""
    return f"not-{label}@{reads}"


def reads_of(model: FastTextModel) -> Reads:
    """How a model wants its text. InputError when its labels ask for a preparation this version does not know."""
    named = {label.rpartition("@")[2] for label in model.labels if label.startswith(f"{PREFIX}not-") and "@" in label}
    if not named:
        return "line"
    if named in ({"line"}, {"words"}):
        return "line" if named == {"line"} else "words"
    raise InputError(f"the fastText model reads its text as {', '.join(sorted(named))}, which this version cannot")


def prepared(texts: pa.LargeStringArray, reads: Reads) -> list[str]:
    """The texts as lines of a training file: what `span_scores` sees of them, in Python strings.

    Words that fastText would take for labels are left out, as the model leaves them out when it is used.
    """
    if reads == "words":
        text, offsets = text_buffers(texts)
        words, starts = words_of(text, offsets[:-1], offsets[1:], PADDING)
        data = words[: starts[-1]].tobytes()
        return [data[a:b].decode() for a, b in pairwise(starts)]
    return [_LABEL.sub("", text.replace("\n", " ")).strip() for text in texts.to_pylist()]


def span_scores(
    model: FastTextModel,
    label: str,
    text: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
) -> npt.NDArray[np.float32]:
    """Probability of a label (without prefix) for each span of a padded buffer, float32[s], prepared as the model asks.

    A span without any word has 0: there is nothing in it to judge. As the library's, probabilities reach 1.00001.
    RecipeError when the model has no such label.
    """
    if reads_of(model) == "words":
        text, offsets = words_of(text, starts, ends, PADDING)
        starts, ends = offsets[:-1], offsets[1:]
    scores = predict_spans(model, text, starts, ends, target=PREFIX + label).target_scores
    return np.where((ends > starts) & ~np.isnan(scores), scores, np.float32(0))
