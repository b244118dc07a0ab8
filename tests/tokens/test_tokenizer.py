"""Token ids against the `tokenizers` library: exactly equal, for any text."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.tokens import tokenizer as tokenizer_module
from olmo_core.tokens.tokenizer import Tokenizer
from tests.tokens.tokenizer_files import END_OF_TEXT, LONGEST_RUN, MARKS, PADDING, real_texts, write_tokenizer

PIECES = [
    *"aZx7|<>'.!-_ \t\n\r\v\f\0é½²漢ʰ",
    *"\u0301\u0338\u0323\u0345\u1100\u1161\u11a8\uac00\u212b\u0915\u093c\u0958\u0344\U0001d15e\U0001f469\u200d\ufeff",
    *"\u00a0\u0085\u1680\u2003\u2028\u202f\u205f\u3000\u200b\u00ad\x1c\u0663\u05d0\u05b0\U0001d400\U0010ffff",
    *("word", "The", "don't", "'s", "'re", "'LL", "I'm", "''ve", "\r\n", "\n\n", "  ", "    ", "3.14", "é́", "Ⅷ"),
    *(" " * LONGEST_RUN, " " * (LONGEST_RUN + 1), "----------------", "https://example.org/?q=1", "__init__"),
    *(END_OF_TEXT, PADDING, *MARKS, "|||EMAIL", "ADDRESS|||", "<|endof", "|||||||"),
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=16).map("".join)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> Tokenizer:
    return Tokenizer.from_file(path)


@pytest.fixture(scope="module")
def library(path: Path) -> tokenizers.Tokenizer:
    return oracle(path)


@pytest.fixture(scope="module")
def olmo_path(shared_data: Path) -> Path:
    return shared_data / "tokenizer" / "allenai_gpt-neox-olmo-dolma-v1_5.json"


@pytest.fixture(scope="module")
def olmo_library(olmo_path: Path) -> tokenizers.Tokenizer:
    return oracle(olmo_path)


def oracle(path: Path) -> tokenizers.Tokenizer:
    library = tokenizers.Tokenizer.from_file(str(path))
    library.encode_special_tokens = True
    return library


def strings(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def rows(result: tuple[np.ndarray, np.ndarray]) -> list[list[int]]:
    ids, offsets = result
    assert offsets.dtype == np.int64
    assert offsets[0] == 0 and offsets[-1] == len(ids)
    return [ids[first:last].tolist() for first, last in zip(offsets, offsets[1:], strict=False)]


def expected_rows(library: tokenizers.Tokenizer, texts: list[str]) -> list[list[int]]:
    return [library.encode(text, add_special_tokens=False).ids for text in texts]


def assert_equal(tokenizer: Tokenizer, library: tokenizers.Tokenizer, texts: list[str]) -> None:
    for text, got, expected in zip(
        texts, rows(tokenizer.encode(strings(texts))), expected_rows(library, texts), strict=True
    ):
        assert got == expected, f"ids differ for {text[:200]!r}"


def test_attributes(tokenizer: Tokenizer, library: tokenizers.Tokenizer) -> None:
    assert (tokenizer.engine, tokenizer.engine_reason) == ("compiled", "")
    assert tokenizer.vocabulary_size == library.get_vocab_size() == 3000 + LONGEST_RUN - 1 + len(MARKS) + 1
    assert tokenizer.dtype == np.uint16
    assert tokenizer.end_of_text_id == library.token_to_id(END_OF_TEXT) == tokenizer.vocabulary_size - 1
    assert tokenizer.encode(strings(["x"]))[0].dtype == tokenizer.dtype


@settings(max_examples=400, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4))
def test_awkward_texts_equal_the_librarys(
    tokenizer: Tokenizer, library: tokenizers.Tokenizer, texts: list[str]
) -> None:
    assert_equal(tokenizer, library, texts)


def test_special_tokens_are_plain_text(tokenizer: Tokenizer, library: tokenizers.Tokenizer) -> None:
    texts = [END_OF_TEXT, f"a{END_OF_TEXT}b", f"{PADDING}{END_OF_TEXT} ", f"{END_OF_TEXT}\u0338", f" {END_OF_TEXT}"]
    assert_equal(tokenizer, library, texts)
    ids = tokenizer.encode(strings(texts))[0]
    assert tokenizer.end_of_text_id not in ids
    assert library.token_to_id(PADDING) not in ids


def test_added_tokens_between_all_neighbours(tokenizer: Tokenizer, library: tokenizers.Tokenizer) -> None:
    glue = ["", " ", "  ", "\n", "x", "|", "'s", "\n\n ", "\u0301", "7", "\u00a0", *MARKS]
    texts = [before + mark + after for mark in MARKS for before in glue for after in glue]
    assert_equal(tokenizer, library, texts)
    ids = tokenizer.encode(strings(list(MARKS)))[0].tolist()
    assert ids == [library.token_to_id(mark) for mark in MARKS]


def test_runs_of_spaces(tokenizer: Tokenizer, library: tokenizers.Tokenizer) -> None:
    frames = ["{}", "x{}y", "x{}", "{}y", "\n{}\n", "\t{}.", "x{}|||IP_ADDRESS|||", "\u00a0{}\u0301"]
    assert_equal(tokenizer, library, [frame.format(" " * n) for n in range(1, 61) for frame in frames])


def test_real_text(tokenizer: Tokenizer, library: tokenizers.Tokenizer) -> None:
    texts = list(real_texts(1_500_000))
    assert sum(map(len, texts)) > 1_000_000
    assert_equal(tokenizer, library, texts)


@pytest.mark.parametrize("word", ["a", "ab", "xyzzy", "-", "-=", "漢字", "\n", "\t\n", "7", " ", "\0", "e\u0301"])
def test_long_repetitions(tokenizer: Tokenizer, library: tokenizers.Tokenizer, word: str) -> None:
    assert_equal(
        tokenizer, library, [word * (size // len(word.encode())) for size in (60, 70, 120, 130, 9_000, 40_000)]
    )


def test_long_random_words(tokenizer: Tokenizer, library: tokenizers.Tokenizer) -> None:
    source = random.Random(1)
    alphabets = [
        "ab",
        "abcdefghijklmnopqrstuvwxyz",
        "etaoin",
        "0123456789",
        "!#$%&()*+,-./:;<=>?@",
        "漢字仮名交文",
        "αβγδ",
    ]
    assert_equal(tokenizer, library, ["".join(source.choices(letters, k=30_000)) for letters in alphabets])


def test_a_word_of_megabytes_takes_no_quadratic_time(tokenizer: Tokenizer) -> None:
    """Quadratic merging of 4 MB would run into the test's time limit many times over."""
    word = "".join(random.Random(2).choices("abcdefghijklmnopqrstuvwxyz", k=4_000_000))
    ids, _ = tokenizer.encode(strings([word]))
    assert tokenizer.decode(ids) == word


def test_empty_texts_and_empty_arrays(tokenizer: Tokenizer) -> None:
    for texts in ([], [""], ["", "", ""]):
        ids, offsets = tokenizer.encode(strings(texts))
        assert (len(ids), ids.dtype) == (0, tokenizer.dtype)
        assert offsets.tolist() == [0] * (len(texts) + 1)
    assert rows(tokenizer.encode(strings(["", "a", ""]))) == [[], rows(tokenizer.encode(strings(["a"])))[0], []]


@pytest.mark.parametrize("engine", ["compiled", "library"])
def test_slices_chunks_and_small_offsets(path: Path, engine: tokenizer_module.Engine) -> None:
    tokenizer = Tokenizer.from_file(path, engine=engine)
    texts = ["first text", "", "e\u0301 second", "|||IP_ADDRESS|||", "  last", "漢字"]
    expected = [rows(tokenizer.encode(strings([text])))[0] for text in texts]
    array = strings(texts)
    for first in range(len(texts) + 1):
        for last in range(first, len(texts) + 1):
            assert rows(tokenizer.encode(array[first:last])) == expected[first:last]
    assert rows(tokenizer.encode(array[1:][2:])) == expected[3:]
    chunked = pa.chunked_array([array[:2], array[2:2], array[2:]])
    assert rows(tokenizer.encode(chunked)) == expected
    assert rows(tokenizer.encode(pa.chunked_array([], pa.large_string()))) == []
    assert rows(tokenizer.encode(pa.array(texts, pa.string()))) == expected
    assert tokenizer.count(array).tolist() == [len(row) for row in expected]
    with pytest.raises(ValueError, match="1 null rows"):
        tokenizer.encode(pa.array(["a", None], pa.large_string()))


def test_rows_do_not_depend_on_how_they_are_grouped(
    tokenizer: Tokenizer, library: tokenizers.Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [text[:3000] for text in real_texts(100_000)] + ["", "x" * 5000, "", "e\u0301" * 50]
    for size in (1, 50, 4000):
        monkeypatch.setattr(tokenizer_module, "_GROUP_BYTES", size)
        assert_equal(tokenizer, library, texts)


def test_decode_returns_the_text(tokenizer: Tokenizer) -> None:
    text = "Wörter, 漢字\n\n  |||EMAIL_ADDRESS||| don't\0<|endoftext|> " + " " * 30
    ids, _ = tokenizer.encode(strings([text]))
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(np.array([tokenizer.end_of_text_id])) == END_OF_TEXT


def test_threads_may_share_one(tokenizer: Tokenizer, library: tokenizers.Tokenizer) -> None:
    batches = [[text[start : start + 5000] for text in real_texts(150_000)] for start in range(0, 20_000, 5000)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda texts: rows(tokenizer.encode(strings(texts))), batches * 3))
    assert results == [expected_rows(library, texts) for texts in batches] * 3


def test_one_object_per_process_read_again_by_whom_it_is_sent_to(tokenizer: Tokenizer, path: Path) -> None:
    assert Tokenizer.from_file(path) is tokenizer
    assert Tokenizer.from_file(path, engine="library") is not tokenizer
    message = pickle.dumps(tokenizer)
    assert len(message) < 1000
    copy = pickle.loads(message)
    assert copy.identity == tokenizer.identity
    texts = strings(["sent  along"])
    assert rows(copy.encode(texts)) == rows(tokenizer.encode(texts))
    assert (copy.engine, copy.dtype, copy.vocabulary_size) == ("compiled", np.uint16, tokenizer.vocabulary_size)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        copy.nothing  # noqa: B018


def test_the_olmo_tokenizer(olmo_path: Path) -> None:
    tokenizer = Tokenizer.from_file(olmo_path)
    assert (tokenizer.engine, tokenizer.vocabulary_size, tokenizer.end_of_text_id) == ("compiled", 50280, 50279)
    assert tokenizer.dtype == np.uint16
    assert tokenizer.identity == hashlib.sha256(olmo_path.read_bytes()).hexdigest()
    ids = tokenizer.encode(strings(["|||IP_ADDRESS|||<|endoftext|>  x"]))[0].tolist()
    assert ids == [0, 29, 93, 423, 1171, 1156, 49651, 50276, 89]


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(TEXTS, max_size=4))
def test_awkward_texts_with_the_olmo_tokenizer(
    olmo_path: Path, olmo_library: tokenizers.Tokenizer, texts: list[str]
) -> None:
    assert_equal(Tokenizer.from_file(olmo_path), olmo_library, texts)


def test_real_inputs_with_the_olmo_tokenizer(
    olmo_path: Path, olmo_library: tokenizers.Tokenizer, shared_data: Path
) -> None:
    texts: list[str] = []
    for name in sorted((shared_data / "web").glob("*.jsonl.gz")):
        texts += gzip.decompress(name.read_bytes()).decode().splitlines()
    texts += [(shared_data / "wikitext-2" / "test.txt").read_text("utf-8")[:300_000]]
    texts += [book.read_text("utf-8", errors="replace")[:200_000] for book in sorted((shared_data / "books").iterdir())]
    assert_equal(Tokenizer.from_file(olmo_path), olmo_library, texts)
