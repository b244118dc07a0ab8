"""Predictions of fastText classifiers for Arrow texts or for parts of them, equal to those of the library."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.curation.fasttext_format import Loss
from olmo_core.curation.fasttext_model import FastTextModel
from olmo_core.errors import RecipeError
from olmo_core.kernels.buffers import text_buffers
from olmo_core.kernels.fasttext_hidden import hidden_vectors, workspace
from olmo_core.kernels.fasttext_output import flat_output, hierarchical_output
from olmo_core.kernels.fasttext_view import LANES

TEXTS_AT_ONCE = 4096
"""Texts between the two kernels: bounds the memory of their hidden vectors (2 MiB at dim 128)."""

NO_TARGET = -1


class Predictions(NamedTuple):
    """One row for each text. A text without any row in the model (no words, and no `</s>`) has no prediction."""

    labels: npt.NDArray[np.int32]
    """Number of the most probable label in `model.labels`, -1 for no prediction."""

    scores: npt.NDArray[np.float32]
    """Its probability as the library gives it, above 1 by up to 1e-5 for each factor, NaN for no prediction."""

    target_scores: npt.NDArray[np.float32]
    """Probability of the label that was asked for, whatever its rank, NaN for no prediction or no such question."""


def predict(
    model: FastTextModel,
    texts: pa.LargeStringArray | pa.StringArray | pa.ChunkedArray,
    *,
    target: str | None = None,
) -> Predictions:
    """Classify whole texts; `target` is the full name of a label (`__label__en`).

    Texts are stripped and their line feeds are spaces. Equal to the library's `predict(..., k=-1)` of such a text,
    labels and scores to the bit; only that a target's score below 1e-5, which the library withholds, is given too.
    """
    buffer, offsets = text_buffers(texts)
    return predict_spans(model, buffer, offsets[:-1], offsets[1:], target=target)


def predict_spans(
    model: FastTextModel,
    buffer: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    *,
    target: str | None = None,
) -> Predictions:
    """Classify bytes `starts[i]` to `ends[i]` of a padded buffer (`kernels.buffers`), such as sentences, each alone.

    RecipeError when the model has no label `target`.
    """
    number = NO_TARGET if target is None else model.label_numbers.get(target, NO_TARGET)
    if target is not None and number == NO_TARGET:
        known = ", ".join(model.labels[:5]) + (", ..." if len(model.labels) > 5 else "")
        raise RecipeError(f"the fastText model has no label {target!r}; name one of its {len(model.labels)}: {known}")
    predictions = Predictions(
        np.empty(len(starts), np.int32), np.empty(len(starts), np.float32), np.empty(len(starts), np.float32)
    )
    starts, ends = np.array(starts, np.int64), np.array(ends, np.int64)
    columns = model.stored_columns
    padded = -(-columns // LANES) * LANES
    path, turns = model.tree.path(max(number, 0)) if model.tree else (None, None)
    try:
        space = model.idle.pop()
    except IndexError:
        space = workspace(model.lexicon, model.word_ngrams)
    for first in range(0, len(starts), TEXTS_AT_ONCE):
        part = slice(first, min(first + TEXTS_AT_ONCE, len(starts)))
        size = part.stop - part.start
        hidden = np.empty(size * padded, np.float32)
        counts = np.empty(size, np.int64)
        hidden_vectors(
            buffer,
            starts[part],
            ends[part],
            model.matrix,
            columns,
            model.lexicon,
            model.word_ngrams,
            space,
            hidden,
            counts,
        )
        out = [column[part] for column in predictions]
        layer = (hidden, counts, model.weights, columns, model.scales)
        if model.tree is not None:
            hierarchical_output(*layer, model.tree.left, model.tree.right, path, turns, number, *out)
        else:
            flat_output(*layer, model.loss is Loss.SOFTMAX, number, *out)
    model.idle.append(space)
    return predictions
