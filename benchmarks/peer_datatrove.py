"""Stages of datatrove 0.10.1, measured inside its own environment. Imports nothing of this project's packages.

Blocks run as in a pipeline, `block.run(documents)`, with their default settings except where a comment says otherwise.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter, LanguageFilter
from datatrove.pipeline.formatters import PIIFormatter
from datatrove.pipeline.readers import JsonlReader, ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
from peer_protocol import Bench, Row, digest, main, token_row  # type: ignore[import-not-found]

END_OF_TEXT = "<|endoftext|>"


def as_documents(documents: list[Row]) -> list[Any]:
    return [Document(text=one["text"], id=one["id"]) for one in documents]


def language(options: argparse.Namespace) -> Bench:
    from fasttext.FastText import _FastText

    block = LanguageFilter(label_only=True)
    block.model._model = _FastText(options.language_model)  # it would fetch lid.176.bin

    def rows(results: list[Any], documents: list[Row]) -> list[Row]:
        found = [one.metadata for one in results]
        return [{"language_as_is": one["language"], "score_as_is": one["language_score"]} for one in found]

    return Bench(
        "LanguageFilter(label_only=True) with lid.176.ftz", as_documents, lambda docs: list(block.run(docs)), rows
    )


def quality(options: argparse.Namespace) -> Bench:
    blocks = (GopherRepetitionFilter(), GopherQualityFilter())

    def work(documents: Iterable[Any]) -> list[Any]:
        for block in blocks:
            documents = block.run(documents)
        return list(documents)

    return Bench("GopherRepetitionFilter, then GopherQualityFilter on what it keeps", as_documents, work, no_rows)


def pii(options: argparse.Namespace) -> Bench:
    return Bench("PIIFormatter (e-mail and IP)", as_documents, lambda docs: list(PIIFormatter().run(docs)), no_rows)


def signatures(options: argparse.Namespace) -> Bench:
    """20 bands of 6 as this project's, so 120 permutations (default: 14 x 8 = 112), word 5-grams (the default)."""
    config = MinhashConfig(n_grams=5, num_buckets=20, hashes_per_bucket=6)
    block = MinhashDedupSignature(options.scratch, config)

    def work(documents: list[Any]) -> list[str]:
        folder = tempfile.mkdtemp(dir=options.scratch)
        block.output_folder = type(block.output_folder)(folder)
        list(block.run(iter(documents)) or ())
        return sorted(str(path) for path in Path(folder).rglob("*.sig"))

    def rows(files: list[str], documents: list[Row]) -> list[Row]:
        bands: list[list[str]] = [[] for _ in documents]
        for path in files:
            for record in np.fromfile(path, np.dtype([("minima", "<u8", 6), ("document", "<u4")])):
                bands[record["document"]].append(digest(record["minima"].tobytes())[:16])
        return [{"bands": one} for one in bands]

    return Bench("MinhashDedupSignature, 20 x 6, spaCy words, sorted files written", as_documents, work, rows)


def tokenization(options: argparse.Namespace) -> Bench:
    """Without its shuffle, which the others do not do either."""
    folder = Path(options.scratch) / "tokens"

    def work(documents: list[Any]) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        block = DocumentTokenizer(str(folder), options.tokenizer, eos_token=END_OF_TEXT, shuffle_documents=False)
        list(block.run(iter(documents)) or ())
        return folder

    def rows(folder: Path, documents: list[Row]) -> list[Row]:
        (path,) = folder.glob("*.ds")
        ids, ends = np.fromfile(path, "<u2"), np.fromfile(f"{path}.index", "<u8").astype(np.int64)
        starts = np.concatenate([[0], ends[:-1]])
        return [token_rows(one["text"], ids[a:b]) for one, a, b in zip(documents, starts, ends)]

    return Bench("DocumentTokenizer (encode_batch), unshuffled, files written", as_documents, work, rows)


def token_rows(text: str, ids: Any) -> Row:
    if re.search(r"<\|(endoftext|padding)\|>", text):
        return {"_skip": {"*": "special token in the text, taken for one"}}
    return token_row(ids[:-1])


def read_jsonl(options: argparse.Namespace) -> Bench:
    folder, name = os.path.split(options.input)
    block = JsonlReader(folder, glob_pattern=name)
    return Bench("JsonlReader", lambda _: None, lambda _: list(block.run()), read_rows)


def read_parquet(options: argparse.Namespace) -> Bench:
    folder, name = os.path.split(options.input)
    block = ParquetReader(folder, glob_pattern=name.replace(".jsonl", ".parquet"))
    return Bench("ParquetReader", lambda _: None, lambda _: list(block.run()), read_rows)


def read_rows(results: list[Any], documents: list[Row]) -> list[Row]:
    return [{"id": one.id, "text": digest(one.text.encode())} for one in results]


def no_rows(results: list[Any], documents: list[Row]) -> list[Row]:
    """Another definition: how many documents came out, for the record."""
    return [{"documents_kept": len(results)}]


MAKERS = {
    "language": language,
    "quality": quality,
    "pii": pii,
    "signatures": signatures,
    "tokenization": tokenization,
    "read-jsonl": read_jsonl,
    "read-parquet": read_parquet,
}

if __name__ == "__main__":
    main(MAKERS, ("datatrove", "spacy", "fasttext-numpy2-wheel", "tokenizers", "numpy", "xxhash"))
