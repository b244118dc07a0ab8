"""The language stage's columns: the library's answers for Dolma's definition, row by row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from olmo_core.curation.fasttext_model import FastTextModel, load
from olmo_core.curation.language import SCHEMA, LanguageRecipe, lower, tag
from olmo_core.errors import RecipeError
from tests.kernels.fasttext_models import ENDLESS, real_texts, trained

SENTENCES = {
    "en": "THE QUICK brown fox jumps over the lazy dog, as it has always done in this village.",
    "de": "Der schnelle braune Fuchs springt über den faulen Hund, wie immer in diesem Dorf.",
    "fr": "Le vif renard brun saute par-dessus le chien paresseux, comme toujours dans ce village.",
    "ru": "Быстрая коричневая лиса прыгает через ленивую собаку, как всегда в этой деревне.",
    "el": "Η ΓΡΗΓΟΡΗ καφέ αλεπού πηδάει πάνω από τον τεμπέλη σκύλο, όπως πάντα ΣΤΟΥΣ ΔΡΟΜΟΥΣ ΜΑΣ.",
    "tr": "İSTANBUL'da hızlı kahverengi tilki tembel köpeğin üzerinden atlar, her zamanki gibi.",
    "ja": "素早い茶色の狐は、いつものようにこの村でのろまな犬を飛び越えます。",
}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[FastTextModel, Any]:
    """A model of the same kind as lid.176, trained here; its `languages` are called l0 to l299."""
    path = trained(tmp_path_factory) / "languages.ftz"
    return load(path), fasttext.load_model(str(path))


@pytest.fixture(scope="session")
def lid(shared_data: Path) -> tuple[FastTextModel, Any]:
    """The model lid.176.ftz itself."""
    path = shared_data / "models" / "lid.176.ftz"
    return load(path), fasttext.load_model(str(path))


def by_library(library: Any, text: str, language: str) -> tuple[str, float, float | None]:
    """What Dolma's `ft_lang_id_doc_v1` makes of a text: best language, its score, the wanted one's or None."""
    labels, scores = library.predict(text.lower().replace("\n", " ").strip(), k=-1)
    known = {label.replace("__label__", ""): float(score) for label, score in zip(labels, scores, strict=True)}
    (best,), (score,) = library.predict(text.lower().replace("\n", " ").strip())
    return best.replace("__label__", ""), float(score), known.get(language)


def assert_as_library(texts: list[str], recipe: LanguageRecipe, pair: tuple[FastTextModel, Any]) -> None:
    model, library = pair
    rows = tag(pa.array(texts, pa.large_string()), recipe, model).to_pylist()
    assert len(rows) == len(texts)
    for text, row in zip(texts, rows, strict=True):
        language, score, wanted = by_library(library, text, recipe.language)
        assert (row["language"], row["language_score"]) == (language, score)
        assert row["target_score"] == wanted if wanted is not None else row["target_score"] < 2e-5


def test_real_text_as_the_library(small: tuple[FastTextModel, Any]) -> None:
    texts = [text[:3000] for text in real_texts(400_000)] + list(SENTENCES.values()) + ["", " \n", "\x00"]
    assert_as_library(texts, LanguageRecipe(language="l7"), small)


def test_real_text_as_lid_176(lid: tuple[FastTextModel, Any]) -> None:
    texts = [text[:3000] for text in real_texts(400_000)] + list(SENTENCES.values()) + ["", " \n", "\x00"]
    assert_as_library(texts, LanguageRecipe(), lid)


def test_languages_are_found(lid: tuple[FastTextModel, Any]) -> None:
    texts = pa.array(list(SENTENCES.values()), pa.large_string())
    batch = tag(texts, LanguageRecipe(), lid[0])
    assert batch.schema == SCHEMA
    assert batch["language"].to_pylist() == list(SENTENCES)
    assert batch["language_score"][0] == batch["target_score"][0]
    assert batch["target_score"][0].as_py() > 0.5
    assert max(batch["target_score"].to_pylist()[1:]) < 0.1


def test_empty_text_is_a_little_english(lid: tuple[FastTextModel, Any]) -> None:
    (row,) = tag(pa.array([""], pa.large_string()), LanguageRecipe(), lid[0]).to_pylist()
    assert row["language"] == "en"
    assert row["target_score"] == row["language_score"] == np.float32(0.12450418)


def test_case_matters_without_lower_case(lid: tuple[FastTextModel, Any]) -> None:
    text = "THIS IS THE END OF THE STORY"
    both = pa.array([text, text.lower()], pa.large_string())
    first, second = tag(both, LanguageRecipe(), lid[0]).to_pylist()
    assert first == second
    first, second = tag(both, LanguageRecipe(lower_case=False), lid[0]).to_pylist()
    assert first != second
    assert first["language_score"] == np.float32(lid[1].predict(text)[1][0])


def test_no_rows(small: tuple[FastTextModel, Any]) -> None:
    batch = tag(pa.array([], pa.large_string()), LanguageRecipe(language="l1"), small[0])
    assert batch.schema == SCHEMA
    assert batch.num_rows == 0


def test_sliced_rows(small: tuple[FastTextModel, Any]) -> None:
    texts = pa.array([*SENTENCES.values(), "plain", "Σ"], pa.large_string())
    recipe = LanguageRecipe(language="l1")
    whole = tag(texts, recipe, small[0])
    assert tag(texts.slice(2, 5), recipe, small[0]).equals(whole.slice(2, 5))


def test_language_the_model_does_not_have(small: tuple[FastTextModel, Any]) -> None:
    with pytest.raises(RecipeError, match="no label '__label__en'"):
        tag(pa.array(["x"], pa.large_string()), LanguageRecipe(), small[0])


def test_model_without_line_end_has_no_answer_for_empty_text(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = trained(tmp_path_factory) / ENDLESS
    library = fasttext.load_model(str(path))
    assert len(library.predict("")[0]) == 0
    batch = tag(pa.array(["", "yes", " \n"], pa.large_string()), LanguageRecipe(language="a"), load(path))
    for name in SCHEMA.names:
        assert batch[name].is_null().to_pylist() == [True, False, True]
    assert_as_library(["yes", "no", "x", "yes no x"], LanguageRecipe(language="a"), (load(path), library))


common = st.text(st.sampled_from("aAzZ éÉßẞİΣσςÀÆŒŽДЖԱⴀK\u00c5ſÅ🄰中\x00\n"), max_size=20)


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(common, max_size=6))
@example(texts=["ΟΔΟΣ", "ΣΑΣ. ΑΣ'", "abc", "İI", ""])
@example(texts=[])
def test_lower_is_pythons(texts: list[str]) -> None:
    array = pa.array(["dropped", *texts], pa.large_string()).slice(1)
    assert lower(array).to_pylist() == [text.lower() for text in texts]


def test_lower_of_every_letter() -> None:
    """Python and Arrow may know different versions of Unicode: only letters that one of them lacks may differ."""
    characters = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    found = lower(pa.array(characters, pa.large_string())).to_pylist()
    differ = [c for c, lowered in zip(characters, found, strict=True) if lowered != c.lower()]
    assert len(differ) < 200
    assert all(c.lower() == c for c in differ), "letters that Python does not know at all"
