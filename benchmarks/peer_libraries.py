"""The libraries by themselves, in this project's environment (they are what it would use). Imports none of its packages.

fastText, tokenizers and datasketch in the fastest way their documentation shows that keeps to one thread, and pyarrow's
own reader as the ceiling for reading.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from typing import Any

from peer_protocol import Bench, Row, digest, main, token_row  # type: ignore[import-not-found]

GROUP_BYTES = 1 << 20
"""Texts go to the tokenizer in groups of about this size: an Encoding takes some 100 bytes for each byte of text."""
PERMUTATIONS, BANDS, SHINGLE = 120, 20, 5


def as_texts(documents: list[Row]) -> list[str]:
    return [one["text"] for one in documents]


def language(options: argparse.Namespace) -> Bench:
    from fasttext.FastText import _FastText

    model = _FastText(options.language_model)

    def work(texts: list[str]) -> Any:
        return model.predict([text.lower().replace("\n", " ").strip() for text in texts], k=1)

    def rows(result: Any, documents: list[Row]) -> list[Row]:
        names = [labels[0].removeprefix("__label__") for labels in result[0]]
        return [{"language": name, "score": float(score[0])} for name, score in zip(names, result[1], strict=True)]

    return Bench("fasttext predict of a list, k=1, lower case", as_texts, work, rows)


def tokenization(options: argparse.Namespace) -> Bench:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(options.tokenizer)
    tokenizer.encode_special_tokens = True

    def work(texts: list[str]) -> None:
        for group in groups(texts):
            tokenizer.encode_batch_fast(group, add_special_tokens=False)

    def rows(result: None, documents: list[Row]) -> list[Row]:
        encodings = (tokenizer.encode_batch_fast(g, add_special_tokens=False) for g in groups(as_texts(documents)))
        return [token_row(encoding.ids) for group in encodings for encoding in group]

    return Bench("tokenizers encode_batch_fast, Encodings as result", as_texts, work, rows)


def groups(texts: list[str]) -> Iterator[list[str]]:
    """Yield the texts in groups of about GROUP_BYTES characters."""
    group: list[str] = []
    size = 0
    for text in texts:
        group.append(text)
        size += len(text)
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def signatures(options: argparse.Namespace) -> Bench:
    from datasketch import MinHash

    words = re.compile(r"\w+")

    def shingles(text: str) -> list[bytes]:
        found = words.findall(text.lower())
        last = max(len(found) - SHINGLE + 1, 1)
        return [" ".join(found[i : i + SHINGLE]).encode() for i in range(last)]

    def work(texts: list[str]) -> Any:
        return list(MinHash.generator((shingles(text) for text in texts), num_perm=PERMUTATIONS, seed=1))

    def rows(result: Any, documents: list[Row]) -> list[Row]:
        parts = [one.hashvalues.reshape(BANDS, -1) for one in result]
        return [{"bands": [digest(band.tobytes())[:16] for band in part]} for part in parts]

    return Bench("datasketch MinHash.generator, 120 permutations, \\w+ words", as_texts, work, rows)


def read_parquet(options: argparse.Namespace) -> Bench:
    import pyarrow.parquet as pq

    path = os.path.splitext(options.input)[0] + ".parquet"

    def rows(table: Any, documents: list[Row]) -> list[Row]:
        return [{"id": one["id"], "text": digest(one["text"].encode())} for one in table.to_pylist()]

    return Bench(
        "pyarrow read_table of id and text, nothing checked",
        lambda _: path,
        lambda p: pq.read_table(p, columns=["id", "text"]),
        rows,
    )


MAKERS = {"language": language, "tokenization": tokenization, "signatures": signatures, "read-parquet": read_parquet}

if __name__ == "__main__":
    main(MAKERS, ("fasttext-numpy2-wheel", "tokenizers", "datasketch", "pyarrow", "numpy"))
