r"""Language identification: the most probable language of each document, and how probable the wanted language is.

The definition is Dolma's `ft_lang_id_en_doc_v2` (dolma 1.2.1, `taggers/language.py`): fastText's lid.176 applied to
`text.lower().replace("\n", " ").strip()`. Where Dolma has no score, because the library withholds probabilities below
1e-5, it writes 0.0; here the number itself stands, so that `target_score` is never missing for such a text. Scores are
the library's, neither rounded nor clipped: it adds 1e-5 to every factor of a probability, so some are 1.00002 or so.

Every text gets an answer, also an empty one: the line end is a word of the model like any other, and lid.176 takes it
for a little English. Length rules must catch such texts, the language score does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from olmo_core.curation.fasttext_model import FastTextModel
from olmo_core.curation.fasttext_predict import predict

VERSION = 1

LABEL_PREFIX = "__label__"

CONTEXTUAL = "[\u0130\u03a3]"
"""Capitals (I with a dot, sigma) whose lower case is two characters, or depends on the neighbours: Arrow does not know these rules."""

SCHEMA = pa.schema(
    [
        pa.field("language", pa.string()),
        pa.field("language_score", pa.float32()),
        pa.field("target_score", pa.float32()),
    ]
)
"""`language`: code of the most probable language (`en`), `language_score`: its probability, `target_score`: that of
the recipe's language. All three are null together, and only for a model that does not know the line end."""


@dataclass(frozen=True, kw_only=True)
class LanguageRecipe:
    """What decides the columns of the language stage."""

    model: str = "lid.176.ftz"
    """Name of the asset with the fastText model. Dolma uses the same model unquantized, lid.176.bin."""

    language: str = "en"
    """Code of the wanted language, as the model names it: its probability is `target_score`."""

    lower_case: bool = True
    """Whether the text is put in lower case first, as Dolma does (lid.176 itself was trained on mixed case)."""


def tag(texts: pa.LargeStringArray, recipe: LanguageRecipe, model: FastTextModel) -> pa.RecordBatch:
    """Return the columns of `SCHEMA`, one row for each text; RecipeError when the model lacks the recipe's language."""
    predictions = predict(model, lower(texts) if recipe.lower_case else texts, target=LABEL_PREFIX + recipe.language)
    names = pa.array([label.removeprefix(LABEL_PREFIX) for label in model.labels], pa.string())
    columns = [
        names.take(pa.array(predictions.labels, mask=predictions.labels < 0)),
        pa.array(predictions.scores, mask=np.isnan(predictions.scores)),
        pa.array(predictions.target_scores, mask=np.isnan(predictions.target_scores)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def lower(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Return `text.lower()` of each text: 5 GB/s for ASCII, about 300 MB/s for texts with other characters.

    Equal to Python's, but for letters that only the newer Unicode of the two knows (Python 3.11: 75 of rare scripts).
    """
    lowered = pc.ascii_lower(texts)
    beyond_ascii = pc.invert(pc.string_is_ascii(texts))
    if not pc.any(beyond_ascii).as_py():
        return lowered
    others = texts.filter(beyond_ascii)
    others_lowered = pc.utf8_lower(others)
    contextual = pc.match_substring_regex(others, CONTEXTUAL)
    if pc.any(contextual).as_py():
        by_python = pa.array([text.lower() for text in others.filter(contextual).to_pylist()], texts.type)
        others_lowered = pc.replace_with_mask(others_lowered, contextual, by_python)
    return pc.replace_with_mask(lowered, beyond_ascii, others_lowered)
