"""Content: toxic sentences by fastText classifiers, or, where no model is at hand, words of a list.

The classifier way is Dolma's (toolkit 1.2.1, `taggers/jigsaw.py`, mode sentence): every sentence of a document gets the
probability of a label. Sentences are ours (`curation.sentences`), probabilities are fastText's to the bit. A recipe
says which of the two it wants: nothing falls back to the word list on its own.

Columns are null-free; thresholds are for selection and mixing. Dolma cuts sentences at 0.4 out of the text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core import assets
from olmo_core.asset_list import ASSETS
from olmo_core.curation import fasttext_model, lexicon
from olmo_core.curation.classifier_text import PREFIX, span_scores
from olmo_core.curation.fasttext_model import FastTextModel
from olmo_core.curation.lexicon import Lexicon
from olmo_core.curation.sentences import split_sentences
from olmo_core.errors import IntegrityError, RecipeError

VERSION = 1
"""Bumped when the same texts give other columns."""

NOT_PROFANE = ("bs", "butt", "mf", "testbad01", "xx", "xxx")
"""Entries of the list of glin-profanity 4.1.0 that are no words, or only technical ones, in documentation and code:
489 of the 519 matches in 42 MB of Python packages (variables, line ends, placeholders; one is the package's own test)."""

SPANS = pa.list_(pa.struct([("start", pa.int64()), ("end", pa.int64()), ("score", pa.float32())]))
"""Sentences: bytes of one document, and the probability."""


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """One fastText model and the label it is asked for."""

    name: str
    """Prefix of its columns, for example `toxic`."""
    model: str
    """Name of an asset (`jigsaw-toxic`), address of a model artifact (`model/toxic@latest`), or path of a file."""
    label: str
    """Label whose probability counts, without `__label__`; Dolma's models have `toxic` and `nsfw`."""
    sha256: str | None = None
    """Digest of the model file. Needed for a path, and for an asset whose digest this project does not know."""

    def __post_init__(self) -> None:
        """Raise RecipeError for a name that is no column name, or a file without a digest."""
        if not (self.name.isascii() and self.name.isidentifier()) or self.name == "lexicon":
            raise RecipeError(
                f"content classifier {self.name!r}: a name is ASCII letters, digits and '_', not 'lexicon'"
            )
        if self.where == "file" and self.sha256 is None:
            raise RecipeError(
                f"content classifier {self.name}: {self.model!r} is neither an asset nor a model artifact, so it is taken"
                " for a file, which can change: put its digest (`sha256sum FILE`) into sha256"
            )

    @property
    def where(self) -> Literal["asset", "artifact", "file"]:
        """What `model` names."""
        if self.model in ASSETS:
            return "asset"
        return "artifact" if self.model.startswith("model/") else "file"


@dataclass(frozen=True, kw_only=True)
class ContentRecipe:
    """What decides the columns of the content stage."""

    kind: Literal["classifier", "lexicon"]
    """How toxic text is found. There is no default: a corpus filtered by a word list shall say so."""
    classifiers: tuple[Classifier, ...] = ()
    """With `classifier`: at least one."""
    record_from: float = 0.3
    """Sentences of at least this probability are kept as spans: the lowest threshold mixing can use."""
    documents: bool = False
    """With `classifier`: also score each document as one text, which costs as much again."""
    lexicon: str = "profanity-words-en"
    """With `lexicon`: name of the asset with the word list."""
    exclude: tuple[str, ...] = NOT_PROFANE
    """With `lexicon`: entries of the list that are not looked for. Name only entries that it has."""

    def __post_init__(self) -> None:
        """Raise RecipeError where fields contradict each other."""
        if (self.kind == "classifier") != bool(self.classifiers):
            raise RecipeError(
                "content: name at least one classifier, or say `kind: lexicon`"
                if self.kind == "classifier"
                else "content: `kind: lexicon` uses no classifiers; take them out, or say `kind: classifier`"
            )
        names = [one.name for one in self.classifiers]
        if len(set(names)) < len(names):
            raise RecipeError(
                f"content: two classifiers have the same name ({', '.join(names)}); columns need one each"
            )
        if not 0 <= self.record_from <= 1:
            raise RecipeError(f"content.record_from {self.record_from}: give a probability between 0 and 1")


Loaded = Lexicon | Mapping[str, FastTextModel]
"""What a recipe uses, in memory: the word list, or the models by classifier name."""


def assets_of(recipe: ContentRecipe) -> list[str]:
    """Names of the assets that a recipe uses. Their digests (`assets.identity`) decide the columns too.

    Without those whose digest the recipe itself states.
    """
    if recipe.kind == "lexicon":
        return [recipe.lexicon]
    return [one.model for one in recipe.classifiers if one.where == "asset" and one.sha256 is None]


def artifacts_of(recipe: ContentRecipe) -> dict[str, str]:
    """Addresses of the model artifacts that a recipe uses, by classifier name: further inputs of the stage."""
    return {one.name: one.model for one in recipe.classifiers if one.where == "artifact"}


def method(recipe: ContentRecipe) -> str:
    """One line for reports: how toxic text was found."""
    if recipe.kind == "lexicon":
        return f"word list {recipe.lexicon}, whole words and phrases; no classifier was used"
    return "; ".join(f"fastText classifier {c.model}, label {c.label}, over sentences" for c in recipe.classifiers)


def load(recipe: ContentRecipe, files: Mapping[str, Path] | None = None) -> Loaded:
    """What a recipe uses, read once per process. `files`: model files of artifacts, by classifier name.

    Raises RecipeError for a model without the label, IntegrityError for a file that is not the one the recipe states,
    AssetError when an asset cannot be had.
    """
    return _load(recipe, tuple(sorted((files or {}).items())))


@lru_cache(maxsize=8)  # verifying a model of 800 MB for every shard would cost a second each time
def _load(recipe: ContentRecipe, files: tuple[tuple[str, Path], ...]) -> Loaded:
    if recipe.kind == "lexicon":
        return lexicon.read_lexicon(assets.fetch(recipe.lexicon), recipe.exclude)
    return {one.name: _model(one, dict(files).get(one.name)) for one in recipe.classifiers}


def _model(one: Classifier, file: Path | None) -> FastTextModel:
    if one.where == "artifact" and file is None:
        raise RecipeError(f"content classifier {one.name}: the file of artifact {one.model} was not given")
    path = file or (assets.fetch(one.model, sha256=one.sha256) if one.where == "asset" else Path(one.model))
    model = fasttext_model.load(path)
    if one.sha256 not in (None, model.identity):
        raise IntegrityError(
            f"content classifier {one.name}: {path} has sha256 {model.identity}, the recipe says {one.sha256}; give the"
            " file that is meant, or correct the recipe"
        )
    if PREFIX + one.label not in model.labels:
        known = ", ".join(label.removeprefix(PREFIX) for label in model.labels[:5])
        raise RecipeError(f"content classifier {one.name}: {one.model} has no label {one.label!r}; it has {known}")
    return model


def columns(recipe: ContentRecipe) -> dict[str, str]:
    """Names of the columns with what each says."""
    if recipe.kind == "lexicon":
        return {
            "lexicon_count": "matches of the word list",
            "lexicon_ratio": "matches of the word list, divided by words",
            "lexicon_spans": "the matches: bytes and entry",
        }
    found = {}
    for one in recipe.classifiers:
        found[f"{one.name}_max"] = f"highest probability of {one.label} of any sentence, 0 without sentences"
        found[f"{one.name}_spans"] = f"sentences of at least {recipe.record_from:g}: bytes and probability"
        if recipe.documents:
            found[f"{one.name}_document"] = f"probability of {one.label} of the document as one text"
    return found


def tag(texts: pa.LargeStringArray, recipe: ContentRecipe, loaded: Loaded | None = None) -> pa.RecordBatch:
    """Return the columns of `columns(recipe)`, one row for each text; `loaded` is what `load(recipe)` gives.

    `<name>_max` and `<name>_document` are float32, `<name>_spans` is `SPANS`; `lexicon_count` is int32,
    `lexicon_ratio` float32, `lexicon_spans` `lexicon.SPANS`.
    """
    using = load(recipe) if loaded is None else loaded
    if isinstance(using, Lexicon):
        return lexicon.match(texts, using)
    found = split_sentences(texts)
    out: dict[str, pa.Array] = {}
    for one in recipe.classifiers:
        scores = span_scores(using[one.name], one.label, found.text, found.starts, found.ends)
        out[f"{one.name}_max"] = pa.array(_highest(scores, found.rows))
        out[f"{one.name}_spans"] = _spans(
            scores, recipe.record_from, found.starts, found.ends, found.rows, found.offsets
        )
        if recipe.documents:
            whole = span_scores(using[one.name], one.label, found.text, found.offsets[:-1], found.offsets[1:])
            out[f"{one.name}_document"] = pa.array(whole)
    return pa.RecordBatch.from_pydict(out)


def _highest(scores: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The highest score of each row, 0 for a row without any."""
    out = np.zeros(len(rows) - 1, np.float32)
    some = rows[1:] > rows[:-1]
    if some.any():
        out[some] = np.maximum.reduceat(scores, rows[:-1][some])
    return out


def _spans(
    scores: npt.NDArray[np.float32],
    lowest: float,
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    offsets: npt.NDArray[np.int64],
) -> pa.ListArray:
    """The sentences of at least the lowest score, counted from the beginning of their own document."""
    chosen = np.flatnonzero(scores >= np.float32(lowest))
    row = np.searchsorted(rows, chosen, side="right") - 1
    fields = [pa.array(starts[chosen] - offsets[row]), pa.array(ends[chosen] - offsets[row]), pa.array(scores[chosen])]
    lists = np.searchsorted(chosen, rows).astype(np.int32)
    spans = pa.StructArray.from_arrays(fields, fields=list(SPANS.value_type))
    return pa.ListArray.from_arrays(pa.array(lists), spans).cast(SPANS)
