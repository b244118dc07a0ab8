"""Stages of the dolma toolkit 1.2.1, measured inside its own environment. Imports nothing of this project's packages.

Taggers are called as `tagger.predict(document)`, without the command's reading, JSON and rounding; tokenization as
`Tokenizer.encode(text.strip())`, the call of its `tokens` command, without the writing.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

import dolma.taggers  # type: ignore[import-not-found]  # noqa: F401  registers the taggers
import msgspec  # type: ignore[import-not-found]
import smart_open
from dolma.core.data_types import Document, InputSpec  # type: ignore[import-not-found]
from dolma.core.registry import TaggerRegistry  # type: ignore[import-not-found]
from dolma.taggers.language import FastTextEnglishLanguageDocumentTagger  # type: ignore[import-not-found]
from dolma.tokenizer.tokenizer import make_tokenizer  # type: ignore[import-not-found]
from peer_protocol import Bench, Row, digest, main, token_row  # type: ignore[import-not-found]

KINDS = {"EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "IP_ADDRESS": "ip"}
FLAGS = ("has_curly_brace", "has_lorem_ipsum", "has_javascript", "has_naughty_word")
LINES = ("lines_with_no_ending_punctuation", "lines_with_too_few_words")
END_OF_TEXT, PADDING = 50279, 1


def as_documents(documents: list[Row]) -> list[Any]:
    return [Document(source="", id=one["id"], text=one["text"]) for one in documents]


def language(options: argparse.Namespace) -> Bench:
    class Tagger(FastTextEnglishLanguageDocumentTagger):  # type: ignore[misc]
        MODEL_PATH = options.language_model

    tagger = Tagger()

    def rows(results: list[Any], documents: list[Row]) -> list[Row]:
        scores = [next(span.score for span in result.spans if span.type == "en") for result in results]
        return [{"target": score} if score else {"_skip": {"*": "score below 1e-5 is withheld"}} for score in scores]

    return Bench(
        "ft_lang_id_en_doc_v2 with lid.176.ftz", as_documents, lambda docs: [tagger.predict(d) for d in docs], rows
    )


def quality(options: argparse.Namespace) -> Bench:
    gopher, c4 = (TaggerRegistry.get(name)() for name in ("gopher_v1", "c4_v2"))

    def rows(results: list[Any], documents: list[Row]) -> list[Row]:
        return [{**gopher_row(g.spans), **c4_row(c.spans, one["text"])} for (g, c), one in zip(results, documents)]

    return Bench(
        "gopher_v1 and c4_v2", as_documents, lambda docs: [(gopher.predict(d), c4.predict(d)) for d in docs], rows
    )


def gopher_row(spans: list[Any]) -> Row:
    """Attributes by this project's names: the n-gram of `most_common` is singular there, as the toolkit's filters expect."""
    return {"gopher_" + re.sub(r"(most_common_\dgram)s", r"\1", span.type): span.score for span in spans}


def c4_row(spans: list[Any], text: str) -> Row:
    kinds = {span.type for span in spans}
    row: Row = {f"c4_{name}": name in kinds for name in FLAGS}
    row["c4_line_count"] = next(span.score for span in spans if span.type == "line_count")
    for name in LINES:
        found = [[span.start, span.end] for span in spans if span.type == name]
        row[f"c4_{name}"] = len(found)
        row[f"c4_{name}_spans"] = found
    if len(text.lower()) != len(text):
        row["_skip"] = {f"c4_{name}_spans": "toolkit's offsets drift where lower case is longer" for name in LINES}
    return row


def pii(options: argparse.Namespace) -> Bench:
    tagger = TaggerRegistry.get("pii_regex_with_counts_fast_v2")()

    def rows(results: list[Any], documents: list[Row]) -> list[Row]:
        spans = [[[s.start, s.end, KINDS[s.type]] for s in result.spans if s.type in KINDS] for result in results]
        return [{"spans": sorted(found)} for found in spans]

    return Bench("pii_regex_with_counts_fast_v2", as_documents, lambda docs: [tagger.predict(d) for d in docs], rows)


def tokenization(options: argparse.Namespace) -> Bench:
    tokenizer = make_tokenizer(options.tokenizer, eos_token_id=END_OF_TEXT, pad_token_id=PADDING)

    def work(texts: list[str]) -> list[list[int]]:
        return [tokenizer.encode(text.strip(), add_special_tokens=True) for text in texts]

    def rows(results: list[list[int]], documents: list[Row]) -> list[Row]:
        return [token_rows(one["text"], ids) for one, ids in zip(documents, results)]

    return Bench("Tokenizer.encode of each document", lambda documents: [one["text"] for one in documents], work, rows)


def token_rows(text: str, ids: list[int]) -> Row:
    if re.search(r"<\|(endoftext|padding)\|>", text):
        return {"_skip": {"*": "special token in the text, taken for one"}}
    return {name + "_stripped": value for name, value in token_row(ids[:-1]).items()}


def read_jsonl(options: argparse.Namespace) -> Bench:
    decoder = msgspec.json.Decoder(InputSpec)

    def work(path: str) -> list[Any]:
        with smart_open.open(path, "rt", encoding="utf-8") as lines:
            return [decoder.decode(line) for line in lines]

    def rows(results: list[Any], documents: list[Row]) -> list[Row]:
        return [{"id": one.id, "text": digest(one.text.encode())} for one in results]

    return Bench("smart_open and msgspec, as its commands read", lambda _: options.input, work, rows)


MAKERS = {
    "language": language,
    "quality": quality,
    "pii-compatible": pii,
    "tokenization": tokenization,
    "read-jsonl": read_jsonl,
}

if __name__ == "__main__":
    main(MAKERS, ("dolma", "fasttext-wheel", "tokenizers", "numpy", "msgspec", "smart-open"))
