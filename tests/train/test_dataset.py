"""Opening tokens: chunks and tails, what was cut or changed, ids beyond the vocabulary, held-out splits, the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, RecipeError, StorageError
from olmo_core.storage import Storage
from olmo_core.train import token_files
from olmo_core.train.dataset import held_out_batches, open_tokens
from tests.train.token_artifacts import LENGTH, dataset_of, run_of, tokens_artifact

ARRAYS = [np.arange(n, dtype="uint16") for n in (3 * LENGTH + 5, 4, 2 * LENGTH)]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A store in a folder."""
    return ArtifactStore(str(tmp_path / "store"))


def test_files_are_cut_into_chunks_and_tails_are_counted(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, ARRAYS)
    assert (dataset.chunks, dataset.tokens, dataset.dropped_tokens) == (5, 3 * LENGTH + 9 + 2 * LENGTH, 9)
    expected = [ARRAYS[f][i * LENGTH : (i + 1) * LENGTH].tolist() for f, i in ((0, 0), (0, 1), (0, 2), (2, 0), (2, 1))]
    assert [dataset.chunk(i).tolist() for i in range(5)] == expected
    assert dataset.rows(np.array([4, 0, 3, 0])).tolist() == [expected[i] for i in (4, 0, 3, 0)]
    located = [dataset.locate(i) for i in range(5)]
    assert located == [(0, 0), (0, 8), (0, 16), (2, 0), (2, 8)]
    assert [dataset.covering(0, 7, 9), dataset.covering(0, 24, 29), dataset.covering(2, 0, 8)] == [
        range(2),
        range(3, 3),
        range(3, 4),
    ]
    with pytest.raises(IndexError):
        dataset.chunk(5)


def test_only_the_same_chunks_have_the_same_fingerprint(tmp_path: Path) -> None:
    same = dataset_of(tmp_path, ARRAYS).fingerprint
    assert dataset_of(tmp_path, ARRAYS).fingerprint == same
    masks = [np.ones(len(a), bool) for a in ARRAYS]
    others = [
        dataset_of(tmp_path, ARRAYS[::-1]), dataset_of(tmp_path, ARRAYS, sequence_length=4),
        dataset_of(tmp_path, ARRAYS, masks=masks), dataset_of(tmp_path, [a.astype("uint32") for a in ARRAYS]),
        dataset_of(tmp_path, [*ARRAYS[:2], ARRAYS[2] + 1]),
    ]  # fmt: skip
    assert len({same, *(o.fingerprint for o in others)}) == 6


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_ids_of_every_type(tmp_path: Path, dtype: str) -> None:
    assert dataset_of(tmp_path, [np.arange(LENGTH).astype(dtype)]).chunk(0).tolist() == list(range(LENGTH))


def test_an_id_beyond_the_vocabulary_is_named_with_its_place(tmp_path: Path) -> None:
    array = np.zeros(5 * LENGTH, "uint16")
    array[2 * LENGTH + 3] = 1000
    with pytest.raises(InputError, match=r"token 19 of 00001.npy .* has id 1000, but model.vocabulary is 1000; raise"):
        dataset_of(tmp_path, [np.zeros(LENGTH, "uint16"), array])
    huge = np.full(LENGTH, 2**63 + 1, "uint64")
    with pytest.raises(InputError, match="has id 9223372036854775809"):
        dataset_of(tmp_path, [huge])


def test_an_id_that_was_not_looked_at_is_found_when_it_is_used(tmp_path: Path) -> None:
    array = np.zeros(3000 * LENGTH, "uint16")
    array[LENGTH + 2] = 1001
    dataset = dataset_of(tmp_path, [array])  # looks at every second chunk
    dataset.chunk(0)
    with pytest.raises(InputError, match="token 10 of 00000.npy"):
        dataset.chunk(1)


@pytest.mark.parametrize("uri", ["{}", "memory://{}"])
def test_an_artifact_is_opened_from_any_store(tmp_path: Path, uri: str) -> None:
    store = ArtifactStore(uri.format(f"{tmp_path}/store"))
    run = run_of(store, tokens_artifact(store, ARRAYS).ref, tmp_path / "cache")
    first, again = open_tokens(store, run), open_tokens(store, run, verify=False)
    assert first.fingerprint == again.fingerprint == dataset_of(tmp_path, ARRAYS).fingerprint
    assert first.chunk(4).tolist() == ARRAYS[2][LENGTH:].tolist()
    cached = [f for f in first.files if f.path.startswith(f"{tmp_path}/cache")]
    assert len(cached) == (3 if "memory" in uri else 0)


def test_what_was_fetched_is_not_fetched_again_unless_it_was_damaged(tmp_path: Path) -> None:
    store = ArtifactStore(f"memory://{tmp_path}/fetch")
    manifest = tokens_artifact(store, ARRAYS)
    run = run_of(store, manifest.ref, tmp_path / "cache")
    path = Path(open_tokens(store, run).files[0].path)
    inode = path.stat().st_ino
    assert Path(open_tokens(store, run).files[0].path).stat().st_ino == inode
    path.write_bytes(bytes(path.stat().st_size))
    assert open_tokens(store, run).chunk(0).tolist() == list(range(LENGTH))
    store.storage.put(manifest.objects[0].path, b"short")
    path.unlink()
    with pytest.raises(InputError, match=r"has 5 bytes, expected 58; .*--repair"):
        open_tokens(store, run)
    assert not [p for p in (tmp_path / "cache").iterdir() if p.name.startswith(".fetching")]


def test_ranks_that_start_together_fetch_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArtifactStore(f"memory://{tmp_path}/together")
    manifest = tokens_artifact(store, ARRAYS)
    run = run_of(store, manifest.ref, tmp_path / "cache")
    fetched: list[str] = []
    copy = token_files._copy

    def counting(storage: Storage, wanted: token_files.Wanted, handle: IO[bytes]) -> str:
        fetched.append(wanted.path)
        return copy(storage, wanted, handle)

    monkeypatch.setattr(token_files, "_copy", counting)
    with ThreadPoolExecutor(6) as ranks:
        found = list(ranks.map(lambda _: open_tokens(store, run).fingerprint, range(6)))
    assert len(set(found)) == 1
    assert sorted(fetched) == sorted(one.path for one in manifest.objects)


def test_a_cache_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    store = ArtifactStore(f"memory://{tmp_path}/cache")
    (tmp_path / "file").write_text("")
    run = run_of(store, tokens_artifact(store, ARRAYS).ref, tmp_path / "file" / "cache")
    with pytest.raises(StorageError, match=r"file/cache.*`resources.cache` names another folder"):
        open_tokens(store, run)


def test_a_file_that_was_cut_or_changed_is_refused(tmp_path: Path, store: ArtifactStore) -> None:
    manifest = tokens_artifact(store, ARRAYS)
    run = run_of(store, manifest.ref, tmp_path / "cache")
    open_tokens(store, run)
    path = Path(store.storage.url(manifest.objects[2].path))
    raw = path.read_bytes()
    path.write_bytes(raw[:-2])
    with pytest.raises(
        InputError, match=r"00002.npy was cut: it has 30 bytes, expected 32; `olmo artifacts verify --repair`"
    ):
        open_tokens(store, run, verify=False)
    path.write_bytes(raw + raw[:2])
    with pytest.raises(InputError, match="was changed: it has 34 bytes"):
        open_tokens(store, run, verify=False)
    path.write_bytes(raw[:-1] + b"\x01")
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match="was changed: its sha256 is"):
        open_tokens(store, run)
    path.unlink()
    with pytest.raises(InputError, match=r"cannot be opened at .*No such file"):
        open_tokens(store, run)


def test_a_held_out_split_is_not_trained_on_and_only_one_is_evaluated_on(tmp_path: Path, store: ArtifactStore) -> None:
    train = tokens_artifact(store, ARRAYS, split="train").ref
    held = tokens_artifact(store, ARRAYS[:1], name="toy-validation", split="validation").ref
    short = tokens_artifact(store, ARRAYS[1:2], name="toy-short", split="short").ref
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match="is the held-out split 'validation': nothing may be trained on it"):
        open_tokens(store, run_of(store, held, cache))
    run = run_of(store, train, cache, held_out=held)
    assert held_out_batches(store, run).chunks == 3
    assert open_tokens(store, run).chunks == 5
    with pytest.raises(InputError, match="is no held-out split but may be trained on"):
        held_out_batches(store, run_of(store, train, cache, held_out=train))
    with pytest.raises(InputError, match="no file of it a whole chunk"):
        held_out_batches(store, run_of(store, train, cache, held_out=short))
    with pytest.raises(RecipeError, match="names no held-out tokens"):
        held_out_batches(store, run_of(store, train, cache))


def test_what_is_no_tokens_artifact_is_refused(tmp_path: Path, store: ArtifactStore) -> None:
    missing = ArtifactRef(kind=Kind.TOKENS, name="none", fingerprint="0" * 64)
    with pytest.raises(StorageError):
        open_tokens(store, run_of(store, missing, tmp_path))


def test_ids_of_a_type_that_none_has_are_refused(tmp_path: Path, store: ArtifactStore) -> None:
    ref = tokens_artifact(store, [np.zeros(16, "int16")]).ref
    with pytest.raises(InputError, match="ids of type 'int16'; there are uint8, uint16, uint32, uint64"):
        open_tokens(store, run_of(store, ref, tmp_path / "cache"))


def test_reading_and_inspecting_tokens_need_neither_torch_nor_compiled_kernels() -> None:
    program = (
        "import sys, olmo_core.train.inspection, olmo_core.train.dataset\n"
        "print([name for name in ('torch', 'numba', 'prefect', 'pydantic', 'boto3') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_loader_needs_torch_and_no_compiled_kernels() -> None:
    program = (
        "import sys, olmo_core.train.loader\nprint([n for n in ('numba', 'prefect', 'pydantic') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
