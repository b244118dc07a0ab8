"""Which tokenizers the compiled encoder takes, what becomes of the others, and what is refused."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers

from olmo_core.errors import AssetError, InputError, IntegrityError
from olmo_core.kernels.byte_pairs_encode import Vocabulary
from olmo_core.kernels.unicode_classes import OTHER
from olmo_core.tokens import tokenizer as tokenizer_module
from olmo_core.tokens.tokenizer import Tokenizer
from olmo_core.tokens.tokenizer_json import byte_characters, compiled_vocabulary
from tests.tokens.tokenizer_files import END_OF_TEXT, MARKS, changed_copy, write_tokenizer

TEXTS = ["Don't  stop\n\n  e\u0301 <|endoftext|> |||IP_ADDRESS||| x", "", "漢字 12345", " lead", "UPPER   lower " * 20]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


def added_token(content: str, **changes: Any) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    return {"id": 5, "content": content, **plain, **changes}


OTHER_STRUCTURES: list[tuple[dict[str, Any], str]] = [
    ({"normalizer": None}, "normalizer is None"),
    ({"normalizer": {"type": "NFKC"}}, "not NFC"),
    ({"pre_tokenizer__add_prefix_space": True}, "space before the text"),
    ({"pre_tokenizer__use_regex": False}, "pattern"),
    ({"pre_tokenizer": {"type": "WhitespaceSplit"}}, "pre-tokenizer is WhitespaceSplit"),
    ({"post_processor": {"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]}}, "post-processor"),
    ({"model__ignore_merges": True}, "ignore_merges"),
    ({"model__unk_token": "<|padding|>"}, "unk_token"),
    ({"model__byte_fallback": True}, "byte_fallback"),
    ({"added_tokens__-2__lstrip": True}, "looks at its neighbours"),
    ({"added_tokens__-2__single_word": True}, "looks at its neighbours"),
    ({"added_tokens__-2__normalized": False}, "unusual time"),
    ({"added_tokens__-1__normalized": True}, "unusual time"),
    ({"added_tokens__5__special": True, "added_tokens__5__normalized": False}, "gaps"),
]


@pytest.mark.parametrize(("changes", "reason"), OTHER_STRUCTURES)
def test_other_structures_are_left_to_the_library(
    path: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    other = changed_copy(path, tmp_path / "tokenizer.json", **changes)
    tokenizer = Tokenizer.from_file(other)
    assert tokenizer.engine == "library"
    assert reason in tokenizer.engine_reason
    library = tokenizers.Tokenizer.from_file(str(other))
    library.encode_special_tokens = True
    ids, offsets = tokenizer.encode(pa.array(TEXTS, pa.large_string()))
    assert ids.dtype == tokenizer.dtype
    for row, text in enumerate(TEXTS):
        assert ids[offsets[row] : offsets[row + 1]].tolist() == library.encode(text, add_special_tokens=False).ids
    with pytest.raises(InputError, match="does not implement"):
        Tokenizer.from_file(other, engine="compiled")


@pytest.mark.parametrize("content", ["'x", "x|", "a", "|a b|", "|é|", "|" * 64, "\n", " "])
def test_added_tokens_of_other_shapes_are_left_to_the_library(path: Path, content: str) -> None:
    description = json.loads(path.read_text("utf-8"))
    assert isinstance(compiled_vocabulary(description), Vocabulary)
    description["added_tokens"].append(added_token(content))
    with pytest.raises(ValueError, match="neither spaces nor a short ASCII mark"):
        compiled_vocabulary(description)


def test_merges_out_of_order_and_missing_bytes_are_left_to_the_library(path: Path) -> None:
    description = json.loads(path.read_text("utf-8"))
    merges = description["model"]["merges"]
    merges[10], merges[11] = merges[11], merges[10]
    with pytest.raises(ValueError, match="do not rise"):
        compiled_vocabulary(description)
    description = json.loads(path.read_text("utf-8"))
    del description["model"]["vocab"][byte_characters()[0xC3]]
    with pytest.raises(ValueError, match="1 bytes have no token"):
        compiled_vocabulary(description)
    description = json.loads(path.read_text("utf-8"))
    description["model"]["vocab"]["far away"] = 65536
    with pytest.raises(ValueError, match="beyond 16 bits"):
        compiled_vocabulary(description)


def test_merges_written_as_strings_or_as_pairs(path: Path, tmp_path: Path) -> None:
    merges = json.loads(path.read_text("utf-8"))["model"]["merges"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    texts = pa.array(TEXTS, pa.large_string())
    expected = Tokenizer.from_file(path).encode(texts)[0].tolist()
    for name, written in {"pairs": pairs, "strings": [" ".join(pair) for pair in pairs]}.items():
        tokenizer = Tokenizer.from_file(changed_copy(path, tmp_path / name, model__merges=written))
        assert tokenizer.engine == "compiled"
        assert tokenizer.encode(texts)[0].tolist() == expected


def test_truncation_and_padding_in_the_file_do_not_cut_texts(path: Path, tmp_path: Path) -> None:
    library = tokenizers.Tokenizer.from_file(str(path))
    library.enable_truncation(3)
    library.enable_padding(length=9)
    library.save(str(tmp_path / "cutting.json"))
    texts = pa.array(TEXTS, pa.large_string())
    expected = Tokenizer.from_file(path).encode(texts)[0].tolist()
    for engine in ("compiled", "library"):
        assert Tokenizer.from_file(tmp_path / "cutting.json", engine=engine).encode(texts)[0].tolist() == expected


@pytest.mark.parametrize(("size", "dtype"), [(256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.uint32)])
def test_dtype_is_the_smallest_for_the_vocabulary(tmp_path: Path, size: int, dtype: type) -> None:
    vocabulary = {f"w{number}": number for number in range(size - 1)} | {END_OF_TEXT: size - 1}
    library = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.save(str(tmp_path / "words.json"))
    tokenizer = Tokenizer.from_file(tmp_path / "words.json")
    assert (tokenizer.engine, tokenizer.vocabulary_size, tokenizer.end_of_text_id) == ("library", size, size - 1)
    ids, offsets = tokenizer.encode(pa.array(["w3 w1", "unknown", ""], pa.large_string()))
    assert (ids.dtype, ids.tolist(), offsets.tolist()) == (dtype, [3, 1, 0], [0, 2, 3, 3])


def test_files_that_cannot_be_used(path: Path, tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="cannot read the tokenizer"):
        Tokenizer.from_file(tmp_path / "missing.json")
    for name, content in {"cut": path.read_bytes()[:5000], "empty": b"", "other": b'{"a": 1}', "list": b"[]"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=r"is not a tokenizer\.json"):
            Tokenizer.from_file(tmp_path / name)
    with pytest.raises(InputError, match="has no token '</s>'"):
        Tokenizer.from_file(path, end_of_text="</s>")
    assert (
        Tokenizer.from_file(path, end_of_text=MARKS[0]).end_of_text_id
        == Tokenizer.from_file(path).encode(pa.array([MARKS[0]], pa.large_string()))[0].item()
    )


@pytest.mark.parametrize("broken", ["kinds", "run_ids", "byte_ids", "pairs"])
def test_the_self_check_refuses_an_encoder_that_differs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """One wrong entry in a table is found: a space unknown to it, two lengths of runs or two bytes or merges mixed up."""

    def wrong(description: dict[str, Any]) -> Vocabulary:
        vocabulary = compiled_vocabulary(description)
        table = getattr(vocabulary, broken).copy()
        if broken == "kinds":
            table[0x3000] = OTHER
        elif broken == "pairs":
            table[:] = 0
        else:
            first, second = (7, 8) if broken == "run_ids" else (ord("7"), ord("1"))
            table[first], table[second] = table[second], table[first]
        return vocabulary._replace(**{broken: table})

    monkeypatch.setattr(tokenizer_module, "compiled_vocabulary", wrong)
    copy = changed_copy(path, tmp_path / f"{broken}.json", version="1.0")
    with pytest.raises(IntegrityError, match="differ from token"):
        Tokenizer.from_file(copy)


def encode_there(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    return tokenizer.encode(pa.array(texts, pa.large_string()))[0].tolist()


def test_workers_read_the_file_themselves_and_notice_a_change(path: Path, tmp_path: Path) -> None:
    copy = changed_copy(path, tmp_path / "tokenizer.json")
    tokenizer = Tokenizer.from_file(copy)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(encode_there, tokenizer, TEXTS).result() == encode_there(tokenizer, TEXTS)
        changed_copy(path, copy, version="1.0", truncation=None, padding=None, model__fuse_unk=True)
        with pytest.raises(IntegrityError, match="as when the work was planned"):
            pool.submit(encode_there, tokenizer, TEXTS).result()
