"""Model files: what is read equals what the library reads, and damaged files give errors that say what is wrong."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path

import fasttext
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from olmo_core.curation.fasttext_format import Loss
from olmo_core.curation.fasttext_model import FastTextModel, load
from olmo_core.curation.fasttext_predict import predict
from olmo_core.errors import InputError
from tests.kernels.fasttext_models import MODELS, VECTORS, trained

SOME_TEXT = pa.array(["free software, return self", "日本語 </s>"])


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small trained models."""
    return trained(tmp_path_factory)


@pytest.mark.parametrize("name", MODELS)
def test_reads_what_the_library_reads(folder: Path, name: str) -> None:
    path = folder / name
    model, library = FastTextModel.from_file(path), fasttext.load_model(str(path))
    assert model.identity == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(model.labels) == library.get_labels()
    assert model.columns == library.get_dimension() == MODELS[name]["dim"]
    assert model.word_ngrams == MODELS[name]["wordNgrams"]
    assert model.lexicon.words == len(library.get_words())
    assert model.lexicon.longest == MODELS[name]["maxn"]
    assert model.loss == {"hs": 1, "ns": 2, "softmax": 3, "ova": 4}[MODELS[name]["loss"]]
    assert (model.tree is not None) == (model.loss is Loss.HIERARCHICAL_SOFTMAX)
    matrix = model.matrix.reshape(-1, model.stored_columns)[:, : model.columns]
    rows = range(0, len(matrix), max(1, len(matrix) // 200))
    np.testing.assert_array_equal(matrix[rows], [library.get_input_vector(row) for row in rows])
    assert not model.matrix.flags.writeable


def test_one_copy_per_process_and_file(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes((folder / "toxic.bin").read_bytes())
    model = load(path)
    assert load(str(path)) is model
    path.unlink()
    path.write_bytes((folder / "languages.ftz").read_bytes())
    os.utime(path, ns=(1, 1))
    assert load(path).labels != model.labels


def test_mapped_matrix_is_not_copied(folder: Path) -> None:
    path = folder / "toxic.bin"
    model = FastTextModel.from_file(path)
    owner = model.matrix
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert not owner.flags.owndata  # its memory is the file's


@pytest.mark.parametrize("name", ["toxic.bin", "languages.ftz", "words.ftz"])
def test_truncated_anywhere(folder: Path, tmp_path: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    path = tmp_path / name
    sizes = {*range(1, 100, 3), *range(100, len(whole), len(whole) // 37), len(whole) - 1}
    for size in sorted(sizes):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=str(path)):
            FastTextModel.from_file(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(InputError, match="1 bytes too long"):
        FastTextModel.from_file(path)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, 0x1F8B, "not a fastText model: begins with bytes 8b 1f 00 00"),
        (4, 11, "format version 11"),
        (8, 0, "impossible dim 0"),
        (28, 0, "impossible wordNgrams 0"),
        (32, 9, "unknown loss 9"),
        (36, 1, "not a classifier"),
        (40, -5, "impossible bucket -5"),
        (48, 2_000_000_000, "impossible minn 0 or maxn 2000000000"),
        (64, 5, "entries=5"),
    ],
)
def test_wrong_header(folder: Path, tmp_path: Path, position: int, value: int, message: str) -> None:
    data = bytearray((folder / "toxic.bin").read_bytes())
    data[position : position + 4] = struct.pack("<i", value)
    path = tmp_path / "wrong.bin"
    path.write_bytes(data)
    with pytest.raises(InputError, match=message):
        FastTextModel.from_file(path)


def test_not_a_model(tmp_path: Path) -> None:
    empty = tmp_path / "empty.bin"
    empty.write_bytes(b"")
    for path in (empty, tmp_path / "missing.bin", tmp_path):
        with pytest.raises(InputError, match=f"{path}: cannot read"):
            FastTextModel.from_file(path)
    with pytest.raises(InputError, match="cannot read"):
        load(tmp_path / "missing.bin")


def test_word_vectors_are_no_classifier(folder: Path) -> None:
    with pytest.raises(InputError, match="not a classifier"):
        FastTextModel.from_file(folder / VECTORS)


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data(), name=st.sampled_from(["languages.ftz", "words.ftz", "tree.bin"]))
def test_damage_gives_an_error_or_a_prediction(folder: Path, tmp_path: Path, data: st.DataObject, name: str) -> None:
    """Whatever bytes are changed: an InputError or predictions, never another error (or a crash)."""
    content = bytearray((folder / name).read_bytes())
    places = st.integers(0, 200) | st.integers(0, len(content) - 1)
    for position in data.draw(st.lists(places, min_size=1, max_size=4)):
        content[position] = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    path = tmp_path / name
    path.write_bytes(content)
    try:
        model = FastTextModel.from_file(path)
    except InputError:
        return
    assert len(predict(model, SOME_TEXT).labels) == 2
