"""Reads a `tokenizer.json` and decides whether the compiled encoder implements exactly what it describes.

What it implements is the family of GPT-NeoX-20B and OLMo: normal form C, GPT-2's byte-level pattern, plain byte-pair
merges, and added tokens that are runs of spaces or short ASCII marks. Anything else is `UnsupportedTokenizer`, with
the reason, and is left to the `tokenizers` library: nothing here is ever nearly right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from olmo_core.kernels.byte_pairs import pair_table
from olmo_core.kernels.byte_pairs_encode import Vocabulary
from olmo_core.kernels.pretokens import LITERAL_ROW
from olmo_core.kernels.unicode_classes import LITERAL, OTHER, load_tables

_LARGEST_ID = 0xFFFF
_NEVER_IN_UTF8 = frozenset({0xC0, 0xC1, *range(0xF5, 0x100)})


class UnsupportedTokenizer(ValueError):
    """The compiled encoder does not implement this tokenizer; the message is the reason."""


def _require(condition: object, reason: str) -> None:
    if not condition:
        raise UnsupportedTokenizer(reason)


def byte_characters() -> list[str]:
    """Return the character by which byte-level vocabularies write each byte.

    GPT-2's table: printable Latin-1 stands for itself, the other bytes for the characters from U+0100 on, in order.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def highest_id(description: Mapping[str, Any]) -> int:
    """Return the highest id of the model's vocabulary and the added tokens."""
    vocabulary = description["model"]["vocab"]
    ids: Iterable[int] = (
        vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))  # Unigram has a list
    )
    return max((*ids, *(token["id"] for token in description.get("added_tokens", []))), default=-1)


def _check_steps(description: Mapping[str, Any]) -> None:
    normalizer = description.get("normalizer")
    _require(normalizer == {"type": "NFC"}, f"normalizer is {normalizer}, not NFC")
    splitter = description.get("pre_tokenizer") or {}
    _require(splitter.get("type") == "ByteLevel", f"pre-tokenizer is {splitter.get('type')}, not ByteLevel")
    _require(splitter.get("add_prefix_space") is False, "pre-tokenizer puts a space before the text")
    _require(splitter.get("use_regex", True) is True, "pre-tokenizer does not use GPT-2's pattern")
    after = (description.get("post_processor") or {"type": "ByteLevel"}).get("type")
    _require(after in ("ByteLevel", "TemplateProcessing"), f"post-processor is {after}")


def _check_model(model: Mapping[str, Any]) -> None:
    _require(model.get("type") == "BPE", f"model is {model.get('type')}, not BPE")
    for option in (
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "byte_fallback",
        "ignore_merges",
    ):
        _require(not model.get(option), f"model has {option} = {model.get(option)!r}")


def _merges(model: Mapping[str, Any]) -> npt.NDArray[np.uint64]:
    """Return the table of merges; their ids must rise, because an id also serves as the merge's rank."""
    vocabulary = model["vocab"]
    pairs = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    try:
        rows = [(vocabulary[left], vocabulary[right], vocabulary[left + right]) for left, right in pairs]
    except (KeyError, ValueError) as error:
        raise UnsupportedTokenizer(f"a merge is not of two known tokens to a third: {error}") from error
    left, right, merged = np.array(rows, np.int64).reshape(-1, 3).T
    _require(np.all(np.diff(merged) > 0) and np.all(merged > 0), "ids of merged tokens do not rise in merge order")
    return pair_table(left.astype(np.uint16), right.astype(np.uint16), merged.astype(np.uint16))


def _byte_ids(vocabulary: Mapping[str, int]) -> npt.NDArray[np.int64]:
    characters = byte_characters()
    missing = [byte for byte in range(256) if characters[byte] not in vocabulary and byte not in _NEVER_IN_UTF8]
    _require(not missing, f"{len(missing)} bytes have no token, the first is {missing[:1]}")
    return np.array([vocabulary.get(character, 0) for character in characters], np.int64)


def _is_literal(content: str, kinds: npt.NDArray[np.uint8]) -> bool:
    """Say whether an added token is a literal as `kernels.pretokens` defines it."""
    return (
        content.isascii()
        and 0 < len(content) < LITERAL_ROW
        and not any(character.isspace() for character in content)
        and content[0] != "'"
        and bool(kinds[ord(content[0])] & OTHER)
    )


def _added(
    tokens: list[dict[str, Any]], kinds: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
    """Return `(run_ids, literals, literal_ids)` and set LITERAL in `kinds`.

    Special tokens are plain text here, and being matched before the normalizer they hide no other added token.
    """
    runs: dict[int, int] = {}
    literals: dict[str, int] = {}
    for token in tokens:
        content = token["content"]
        plain = not (token.get("single_word") or token.get("lstrip") or token.get("rstrip"))
        _require(plain, f"added token {content!r} looks at its neighbours")
        matched_late = token.get("normalized", not token.get("special"))
        _require(matched_late != bool(token.get("special")), f"added token {content!r} matches at an unusual time")
        if token.get("special"):
            continue
        if len(content) > 1 and not content.strip(" "):
            runs[len(content)] = token["id"]
            continue
        _require(_is_literal(content, kinds), f"added token {content!r} is neither spaces nor a short ASCII mark")
        literals[content] = token["id"]
    _require(sorted(runs) == list(range(2, len(runs) + 2)), "added runs of spaces have gaps")
    run_ids = np.array([0, 0, *(runs[length] for length in sorted(runs))], np.uint16)
    contents = sorted(literals, key=len, reverse=True)
    table = np.zeros((len(contents), LITERAL_ROW), np.uint8)
    for row, content in enumerate(contents):
        table[row, 0] = len(content)
        table[row, 1 : len(content) + 1] = np.frombuffer(content.encode("ascii"), np.uint8)
        kinds[ord(content[0])] |= LITERAL
    return run_ids, table, np.array([literals[content] for content in contents], np.uint16)


def compiled_vocabulary(description: Mapping[str, Any]) -> Vocabulary:
    """Return the compiled encoder's tables of a parsed `tokenizer.json`; raises UnsupportedTokenizer with the reason."""
    _check_steps(description)
    model = description["model"]
    _check_model(model)
    highest = highest_id(description)
    _require(highest <= _LARGEST_ID, f"the highest id is {highest}, beyond 16 bits")
    kinds = load_tables().kinds.copy()
    run_ids, literals, literal_ids = _added(description["added_tokens"], kinds)
    return Vocabulary(
        byte_ids=_byte_ids(model["vocab"]),
        pairs=_merges(model),
        run_ids=run_ids,
        literals=literals,
        literal_ids=literal_ids,
        kinds=kinds,
    )
