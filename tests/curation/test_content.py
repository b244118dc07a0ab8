"""Content tags: sentence scores against the fastText library, word-list matches against a plain search."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from olmo_core.curation import content
from olmo_core.curation.content import NOT_PROFANE, Classifier, ContentRecipe, load, tag
from olmo_core.curation.lexicon import Lexicon, match, read_lexicon
from olmo_core.errors import AssetError, IntegrityError, RecipeError
from olmo_core.kernels.lexicon import entries
from tests.curation.test_sentences import sentences
from tests.curation.tiny_classifier import KIND, RUDE, tiny, words_reference

LEXICON = ContentRecipe(kind="lexicon")
LIST = (
    "ass",
    "a$$",
    "@ss",
    "big tits",
    "tits",
    "f*ck",
    "xy",
    "xy z",
    "x",
    "🖕",
    "чёрт",
    "straße",
    "2 girls 1 cup",
    "s&m",
)


def large(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "rude.bin"
    path.write_bytes(tiny().model)
    return path


def recipe_of(model: Path, *, record_from: float = 0.3, documents: bool = False, label: str = "rude") -> ContentRecipe:
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    one = Classifier(name="rude", model=str(model), label=label, sha256=digest)
    return ContentRecipe(kind="classifier", classifiers=(one,), record_from=record_from, documents=documents)


def test_sentences_are_scored_as_by_the_library(model: Path) -> None:
    texts = [
        " ".join(f"{s.capitalize()}." for s in KIND + RUDE),
        "é! " + RUDE[1],
        "",
        " \n",
        "--- ***",
        "\n".join(RUDE),
    ]
    recipe = recipe_of(model, documents=True)
    library = fasttext.load_model(str(model))

    def score(text: str) -> np.float32:
        words = words_reference(text)
        labels, scores = library.predict(words, k=-1)
        return np.float32(dict(zip(labels, scores, strict=True)).get("__label__rude", 0) if words else 0)

    rows = tag(large(texts), recipe).to_pylist()
    assert [list(row) for row in rows] == [list(content.columns(recipe))] * len(texts)
    for text, row in zip(texts, rows, strict=True):
        expected = [(sentence, score(sentence)) for sentence in sentences(text)]
        assert row["rude_max"] == max((s for _, s in expected), default=0)
        assert row["rude_document"] == score(text)
        got = [(text.encode()[s["start"] : s["end"]].decode(), s["score"]) for s in row["rude_spans"]]
        assert got == [(sentence, s) for sentence, s in expected if s >= np.float32(0.3)]
    assert 0 < len(rows[0]["rude_spans"]) < len(KIND + RUDE)


def test_what_is_recorded_follows_the_recipe(model: Path) -> None:
    texts = large([f"{a.capitalize()}. {b.capitalize()}." for a in KIND for b in RUDE])
    scores = [
        span["score"] for row in tag(texts, recipe_of(model, record_from=0)).to_pylist() for span in row["rude_spans"]
    ]
    assert len(scores) == 2 * len(texts)
    for limit in (0.5, 1.0):
        rows = tag(texts, recipe_of(model, record_from=limit)).to_pylist()
        found = [span["score"] for row in rows for span in row["rude_spans"]]
        assert found == [score for score in scores if score >= limit]


def test_schema_is_the_same_for_no_rows(model: Path) -> None:
    for recipe in (recipe_of(model, documents=True), LEXICON):
        full, empty = tag(large(["You nasty ass. Go."]), recipe), tag(large([]), recipe)
        assert full.schema == empty.schema and empty.num_rows == 0
        assert full.schema.names == list(content.columns(recipe))
    assert tag(large([]), LEXICON).schema.field("lexicon_spans").type.value_type.names == ["start", "end", "kind"]


def test_a_row_does_not_depend_on_its_neighbours(model: Path) -> None:
    texts = [RUDE[0], "", " ".join(KIND), "\n".join(RUDE * 3), "Ass. Tits!"]
    for recipe in (recipe_of(model), LEXICON):
        together = tag(large(texts), recipe).to_pylist()
        assert together == [tag(large([text]), recipe).to_pylist()[0] for text in texts]


def test_model_must_be_the_one_the_recipe_means(model: Path, tmp_path: Path) -> None:
    recipe = recipe_of(model)
    other = tmp_path / "other.bin"
    other.write_bytes(tiny("line").model)
    with pytest.raises(IntegrityError, match="the recipe says"):
        load(
            ContentRecipe(
                kind="classifier", classifiers=(Classifier(name="a", model=str(other), label="rude", sha256="0" * 64),)
            )
        )
    with pytest.raises(IntegrityError, match="the recipe says"):
        load(recipe, {"rude": other})
    with pytest.raises(RecipeError, match="has no label 'toxic'; it has not-rude@words, rude"):
        load(recipe_of(model, label="toxic"))


def test_artifacts_and_assets_are_named_for_the_stage(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OLMO_ASSETS", str(tmp_path))
    trained = Classifier(name="rude", model="model/rude/latest", label="rude")
    jigsaw = Classifier(name="toxic", model="jigsaw-toxic", label="toxic")
    pinned = Classifier(name="nsfw", model="jigsaw-nsfw", label="nsfw", sha256="0" * 64)
    recipe = ContentRecipe(kind="classifier", classifiers=(trained, jigsaw, pinned))
    assert content.assets_of(recipe) == ["jigsaw-toxic"]
    assert content.artifacts_of(recipe) == {"rude": "model/rude/latest"}
    with pytest.raises(RecipeError, match="the file of artifact model/rude/latest was not given"):
        load(recipe)
    with pytest.raises(AssetError, match="no sha256 known"):
        load(recipe, {"rude": model})
    only = ContentRecipe(kind="classifier", classifiers=(trained,))
    assert tag(large([RUDE[0]]), only, load(only, {"rude": model})).to_pylist()[0]["rude_max"] > 0.5
    assert content.method(only) == "fastText classifier model/rude/latest, label rude, over sentences"
    assert "no classifier was used" in content.method(LEXICON)
    assert content.assets_of(LEXICON) == ["profanity-words-en"] and content.artifacts_of(LEXICON) == {}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "classifier"}, "name at least one classifier, or say `kind: lexicon`"),
        ({"kind": "lexicon", "classifiers": (Classifier(name="a", model="jigsaw-toxic", label="toxic"),)}, "uses no classifiers"),
        ({"kind": "classifier", "classifiers": (Classifier(name="a", model="jigsaw-toxic", label="toxic"),) * 2}, "same name"),
        ({"kind": "lexicon", "record_from": 1.5}, "between 0 and 1"),
    ],
)  # fmt: skip
def test_contradicting_recipes(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        ContentRecipe(**values)  # type: ignore[arg-type]


def test_classifier_names_and_files() -> None:
    for name in ("", "a b", "a-b", "é", "lexicon"):
        with pytest.raises(RecipeError, match="a name is ASCII letters"):
            Classifier(name=name, model="jigsaw-toxic", label="toxic")
    with pytest.raises(RecipeError, match=r"'models/toxic\.bin' is neither an asset nor a model artifact"):
        Classifier(name="toxic", model="models/toxic.bin", label="toxic")


def plain_matches(text: str, words: tuple[str, ...]) -> list[tuple[str, str]]:
    """Leftmost, longest whole-word matches by trying every entry at every character."""

    def inside(character: str) -> bool:
        return character.isalnum() or character == "_" or "\u0300" <= character <= "\u036f"

    def same(a: str, b: str) -> bool:
        return (a.lower() if len(a.lower()) == 1 else a) == b

    def end_of(word: str, i: int) -> int | None:
        for letter in word:
            if letter == " ":
                if i == len(text) or not text[i].isspace():
                    return None
                while i < len(text) and text[i].isspace():
                    i += 1
            elif i < len(text) and same(text[i], letter):
                i += 1
            else:
                return None
        touching = i < len(text) and inside(text[i]) and (inside(word[-1]) or word[-1].isascii())
        return None if touching else i

    found, i = [], 0
    while i < len(text):
        free = i == 0 or not inside(text[i - 1]) or not (inside(text[i]) or text[i].isascii())
        ends = {word: end_of(word, i) for word in words} if free else {}
        best = max((w for w in ends if ends[w] is not None), key=len, default=None)
        if best is None:
            i += 1
            continue
        found.append((best, text[i : ends[best]]))
        i = ends[best] or i
    return found


PARTS = [
    *LIST,
    "ASS",
    "Big",
    "\n",
    " ",
    "  ",
    "\u00a0",
    "-",
    "_",
    "cl",
    "'s",
    "X",
    "Y",
    "Z",
    "ЧЁРТ",
    "STRASSE",
    "\u0301",
    "é",
    "1",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=2)), max_size=10).map("".join), max_size=3))
@example(["xy  z", "xy\nz xy zx", "2\u00a0GIRLS \n1 cup", "lol🖕lol ass🖕", "me@ss @ss pa$$ A$$", "🖕", "x\x00x"])
def test_matches_are_those_of_a_plain_search(texts: list[str]) -> None:
    tags = match(large(texts), Lexicon(words=LIST, listed=entries(LIST)))
    for text, row in zip(texts, tags.to_pylist(), strict=True):
        raw = text.encode()
        got = [(span["kind"], raw[span["start"] : span["end"]].decode()) for span in row["lexicon_spans"]]
        assert got == plain_matches(text, LIST)
        assert row["lexicon_count"] == len(got)
        assert row["lexicon_ratio"] == np.float32(len(got) / max(1, len(text.split())))


def test_more_matches_than_first_allowed_for() -> None:
    tags = match(large(["ass " * 5000, "", "x"]), Lexicon(words=LIST, listed=entries(LIST)))
    assert tags["lexicon_count"].to_pylist() == [5000, 0, 1]
    assert tags["lexicon_ratio"].to_pylist() == [1, 0, 1]


def test_the_list_of_the_package() -> None:
    lexicon = load(LEXICON)
    assert isinstance(lexicon, Lexicon) and len(lexicon.words) == 416 - len(NOT_PROFANE)
    rows = tag(
        large(["The class passed; Essex assesses glass in bs and xx.", "What a load of BULLSHIT, you Ass!"]),
        LEXICON,
        lexicon,
    )
    assert rows["lexicon_count"].to_pylist() == [0, 2]
    assert [span["kind"] for span in rows["lexicon_spans"].to_pylist()[1]] == ["bullshit", "ass"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({"words": ["Ass", " big  TITS ", "ass"]})),
        ("b.json", '["ass", "big tits", ""]'),
        ("c.txt", "Ass\nbig tits\n"),
    ],
)
def test_word_lists_of_three_forms(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    assert read_lexicon(tmp_path / name).words == ("ass", "big tits")
    assert read_lexicon(tmp_path / name, ("ASS",)).words == ("big tits",)
    with pytest.raises(RecipeError, match="'butt' is not in the word list"):
        read_lexicon(tmp_path / name, ("butt",))
    with pytest.raises(AssetError, match="has no words besides those excluded"):
        read_lexicon(tmp_path / name, ("ass", "big tits"))


@pytest.mark.parametrize("text", ["{", '{"other": []}', "[1]", "7"])
def test_files_that_are_no_word_list(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(AssetError, match="is not a word list"):
        read_lexicon(tmp_path / "a.json")
