"""Reads labelled texts for training a classifier: CSV or JSON lines, compressed or not, into texts and one bool each."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from olmo_core.documents.streams import HashedFile, compression, decompressed
from olmo_core.errors import InputError, RecipeError


@dataclass(frozen=True, kw_only=True)
class LabelRecipe:
    """Which columns of a labelled file to read, and what its classes mean."""

    text: str = "text"
    """Column (CSV) or field (JSON lines) with the text."""
    label: str = "label"
    """Column or field with the class; numbers and booleans are compared by their JSON text."""
    positive: tuple[str, ...] = ("1",)
    """Classes that the classifier is to find."""
    negative: tuple[str, ...] = ("0",)
    """Classes of everything else."""
    ignored: tuple[str, ...] = ()
    """Classes whose rows are left out."""

    def __post_init__(self) -> None:
        """Raise RecipeError unless there are classes on both sides, each named once."""
        if not self.positive or not self.negative:
            raise RecipeError("labels: name at least one class as positive and one as negative")
        twice = [c for c, n in Counter(self.positive + self.negative + self.ignored).items() if n > 1]
        if twice:
            raise RecipeError(f"labels: class {twice[0]!r} is named twice among positive, negative and ignored")


class Labelled(NamedTuple):
    """n labelled texts."""

    texts: pa.LargeStringArray
    """(n,) never null."""
    positive: npt.NDArray[np.bool_]
    """(n,) whether the text is of a positive class."""
    sha256: str
    """Digest of the file's stored bytes: the data's identity."""


def read_labelled(url: str, recipe: LabelRecipe) -> Labelled:
    """Read a `.csv` or `.jsonl` file (also `.gz`, `.zst`, `.bz2`, `.xz`), a local path or a URL, in file order.

    Raises InputError, naming the line, for a file that is missing, damaged, empty or not UTF-8, for a column that is
    not there, a text that is missing, and a class that the recipe does not name; RecipeError for an unknown suffix.
    """
    path = PurePosixPath(url)
    kind = path.with_suffix("").suffix if compression(url) else path.suffix
    if kind not in (".csv", ".jsonl"):
        raise RecipeError(f"{url}: labelled data must be .csv or .jsonl, compressed or not, not {kind or path.name!r}")
    with HashedFile(url) as file:
        raw = b"".join(decompressed(file, url))
        _, sha256 = file.finish()
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{url}: line {line} is not UTF-8 ({error.reason} at byte {error.start}); convert it"
        ) from error
    rows = _csv_rows(url, content, recipe) if kind == ".csv" else _json_rows(url, content)
    meaning = dict.fromkeys(recipe.positive, True) | dict.fromkeys(recipe.negative, False)
    texts: list[str] = []
    positive: list[bool] = []
    for line, row in rows:
        text, found = row.get(recipe.text), row.get(recipe.label)
        if not isinstance(text, str):
            raise InputError(f"{url}: line {line}: {recipe.text!r} is {_shown(row, recipe.text)}, not a text")
        name = found if isinstance(found, str) else json.dumps(found)
        if name in meaning:
            texts.append(text)
            positive.append(meaning[name])
        elif name not in recipe.ignored:
            raise InputError(
                f"{url}: line {line}: {recipe.label!r} is {_shown(row, recipe.label)}, which the recipe does not name;"
                f" it names {', '.join([*meaning, *recipe.ignored])} (positive, negative or ignored)"
            )
    if not texts:
        raise InputError(f"{url}: no labelled text in it; expected rows with {recipe.text!r} and {recipe.label!r}")
    return Labelled(pa.array(texts, pa.large_string()), np.array(positive, bool), sha256)


def _shown(row: Mapping[str, Any], key: str) -> str:
    return repr(row[key])[:60] if key in row else "missing"


def _csv_rows(url: str, content: str, recipe: LabelRecipe) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Each row by column with the line it ends in. Fields may hold line ends when they are quoted."""
    reader = csv.reader(_lines(content), strict=True)
    header = next(reader, None)
    if header is None:
        return
    for wanted in (recipe.text, recipe.label):
        if wanted not in header:
            raise InputError(f"{url}: there is no column {wanted!r}; the columns are {', '.join(map(repr, header))}")
    try:
        for row in reader:
            if row and len(row) != len(header):
                raise InputError(f"{url}: line {reader.line_num}: {len(row)} fields, but the header has {len(header)}")
            if row:
                yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InputError(f"{url}: line {reader.line_num} is not CSV: {error}") from error


def _json_rows(url: str, content: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(_lines(content), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise InputError(f"{url}: line {line} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{url}: line {line} is a JSON {type(row).__name__}, not an object")
        yield line, row


def _lines(content: str) -> Iterator[str]:
    """Lines with their ends, split at LF only (str.splitlines knows ten more, which texts contain)."""
    parts = content.split("\n")
    return chain((part + "\n" for part in parts[:-1]), filter(None, parts[-1:]))
