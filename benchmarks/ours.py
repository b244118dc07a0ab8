"""The stages of this project, measured as the peers are: `python -m benchmarks.ours --stage quality --input ...`.

Texts are an Arrow array, as the stages get them from a shard; results are Arrow columns. `--stage compile` instead warms
every stage up and reports the seconds: with an empty NUMBA_CACHE_DIR that is the compilation a new installation does once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.peer_protocol import WARM_UP_DOCUMENTS, Bench, Row, digest, main, options_parser, read_jsonl, token_row
from olmo_core.curation import content, language, pii, quality, signatures
from olmo_core.curation.fasttext_model import load
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.documents.parquet import ParquetSource
from olmo_core.documents.reader import read_documents, scan
from olmo_core.tokens.tokenizer import Tokenizer

PACKAGES = ("olmo-flows", "numba", "numpy", "pyarrow", "tokenizers")
SPAN_COLUMNS = ("c4_lines_with_no_ending_punctuation_spans", "c4_lines_with_too_few_words_spans")


def as_array(documents: list[Row]) -> pa.LargeStringArray:
    return pa.array([one["text"] for one in documents], pa.large_string())


def code_points(text: str, spans: list[Row]) -> list[tuple[int, int]]:
    """Turn our spans of bytes into the peers' spans of code points."""
    if text.isascii():
        return [(span["start"], span["end"]) for span in spans]
    places = list(accumulate((len(character.encode()) for character in text), initial=0))
    place = {byte: number for number, byte in enumerate(places)}
    return [(place[span["start"]], place[span["end"]]) for span in spans]


def language_stage(options: argparse.Namespace) -> Bench:
    model = load(options.language_model)

    def rows(result: pa.RecordBatch, documents: list[Row]) -> list[Row]:
        as_is = language.tag(as_array(documents), language.LanguageRecipe(lower_case=False), model)
        names = ("language", "score", "target"), ("language_as_is", "score_as_is", "target_as_is")
        columns = {
            key: column.to_pylist()
            for keys, batch in zip(names, (result, as_is))
            for key, column in zip(keys, batch.columns)
        }
        return [dict(zip(columns, row)) for row in zip(*columns.values())]

    return Bench(
        "language.tag: fastText lid.176.ftz, lower case",
        as_array,
        lambda t: language.tag(t, language.LanguageRecipe(), model),
        rows,
    )


def quality_stage(options: argparse.Namespace) -> Bench:
    words = tuple(w.strip() for w in Path(options.naughty_words).read_text("utf-8").split("\n") if w.strip())

    def rows(result: pa.RecordBatch, documents: list[Row]) -> list[Row]:
        found: list[Row] = result.to_pylist()
        for row, one in zip(found, documents, strict=True):
            row.update({name: [list(span) for span in code_points(one["text"], row[name])] for name in SPAN_COLUMNS})
        return found

    work = lambda texts: quality.tag(texts, quality.QualityRecipe(), naughty_words=words)  # noqa: E731
    return Bench("quality.tag: all Gopher and C4 columns with line spans", as_array, work, rows)


def pii_stage(definition: Any) -> Callable[[argparse.Namespace], Bench]:
    def make(options: argparse.Namespace) -> Bench:
        recipe = pii.PiiRecipe(definition=definition)

        def rows(result: pa.RecordBatch, documents: list[Row]) -> list[Row]:
            found = zip(result.column("pii_spans").to_pylist(), documents, strict=True)
            kinds = (
                [[*place, span["kind"]] for place, span in zip(code_points(one["text"], spans), spans)]
                for spans, one in found
            )
            return [{"spans": sorted(spans)} for spans in kinds]

        return Bench(f"pii.tag, definition {definition}", as_array, lambda texts: pii.tag(texts, recipe), rows)

    return make


def lexicon_stage(options: argparse.Namespace) -> Bench:
    recipe = content.ContentRecipe(kind="lexicon")
    loaded = content.load(recipe)
    return Bench(
        "content.tag, word list",
        as_array,
        lambda texts: content.tag(texts, recipe, loaded),
        lambda result, documents: result.to_pylist(),
    )


def signatures_stage(options: argparse.Namespace) -> Bench:
    recipe = signatures.SignatureRecipe()

    def rows(result: pa.RecordBatch, documents: list[Row]) -> list[Row]:
        kept = zip(result.column("bands").to_pylist(), result.column("shingle_count").to_pylist())
        return [{"bands": [str(key) for key in bands] if count else []} for bands, count in kept]

    return Bench(
        "signatures.tag, 20 x 6, word 5-grams, text hash", as_array, lambda texts: signatures.tag(texts, recipe), rows
    )


def tokenization_stage(options: argparse.Namespace) -> Bench:
    tokenizer = Tokenizer.from_file(options.tokenizer, engine="compiled")

    def rows(result: tuple[Any, Any], documents: list[Row]) -> list[Row]:
        stripped = tokenizer.encode(pa.array([one["text"].strip() for one in documents], pa.large_string()))
        pairs = zip(token_rows(*result), token_rows(*stripped), strict=True)
        return [{**row, **{name + "_stripped": value for name, value in other.items()}} for row, other in pairs]

    return Bench("Tokenizer.encode, compiled, ids as a numpy array", as_array, tokenizer.encode, rows)


def token_rows(ids: Any, offsets: Any) -> list[Row]:
    return [token_row(ids[a:b]) for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist())]


def reading_stage(suffix: str) -> Callable[[argparse.Namespace], Bench]:
    def make(options: argparse.Namespace) -> Bench:
        path = str(Path(options.input).with_suffix(suffix))
        source = (
            DolmaJsonlSource(name="all", paths=(path,))
            if suffix == ".jsonl"
            else ParquetSource(name="all", paths=(path,))
        )

        def work(_: object) -> list[pa.Table]:
            return [batch.documents for batch in read_documents(source, scan(source))]

        def rows(result: list[pa.Table], documents: list[Row]) -> list[Row]:
            read = pa.concat_tables(result).select(["id", "text"]).to_pylist()
            return [{"id": row["id"], "text": digest(row["text"].encode())} for row in read]

        return Bench(f"read_documents from {suffix}: hashed, checked, to Arrow", lambda _: None, work, rows)

    return make


MAKERS: dict[str, Callable[[argparse.Namespace], Bench]] = {
    "language": language_stage,
    "quality": quality_stage,
    "pii": pii_stage("fixed"),
    "pii-compatible": pii_stage("dolma_compatible"),
    "content-lexicon": lexicon_stage,
    "signatures": signatures_stage,
    "tokenization": tokenization_stage,
    "read-jsonl": reading_stage(".jsonl"),
    "read-parquet": reading_stage(".parquet"),
}


def compile_all() -> None:
    """Warm every stage up and print the seconds each took: compilation, or loading of compiled code, and models."""
    options = options_parser().parse_args()
    first = read_jsonl(options.input)[:WARM_UP_DOCUMENTS]
    seconds = {}
    for stage, make in MAKERS.items():
        began = time.perf_counter()
        bench = make(options)
        bench.work(bench.prepare(first))
        seconds[stage] = round(time.perf_counter() - began, 2)
    print(json.dumps({"seconds": seconds, "numba_cache": os.environ.get("NUMBA_CACHE_DIR"), "numpy": np.__version__}))


if __name__ == "__main__":
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    if "compile" in sys.argv:
        compile_all()
    else:
        main(MAKERS, PACKAGES)
