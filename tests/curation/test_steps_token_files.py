"""Token files made elsewhere: their order and identity, what is refused, and that the trainer reads just these."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from olmo_core.artifacts.build import build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.steps.inputs import remember
from olmo_core.curation.steps.token_files import OutsideInventory, OutsideTokens, outside_inventory
from olmo_core.errors import InputError, IntegrityError, RecipeError
from olmo_core.train.dataset import open_tokens
from olmo_core.train.loader import NO_TARGET, Loader
from olmo_core.train.run_file import RunFile, run_from_mapping
from olmo_core.workers import Workers
from tests.train.token_artifacts import LENGTH, run_of

SIZES = {"b/0.npy": 3 * LENGTH + 1, "b/1.npy": LENGTH, "a/0.npy": 2 * LENGTH}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """A store in a folder."""
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of different ids, and masks that leave out every third token."""
    for number, (name, size) in enumerate(SIZES.items()):
        for kind, values in (
            ("ids", np.arange(size, dtype="uint16") + 100 * number),
            ("masks", np.arange(size) % 3 != 0),
        ):
            path = tmp_path / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            values.tofile(path)
    return tmp_path


def settings(folder: Path, *, masks: bool = True, **changes: str) -> OutsideTokens:
    """Return settings with `b` before `a`."""
    paths = tuple(f"{folder}/ids/{one}/*.npy" for one in "ba")
    label_masks = tuple(path.replace("/ids/", "/masks/") for path in paths) if masks else ()
    return OutsideTokens(name="elsewhere", paths=paths, label_masks=label_masks, **changes)  # type: ignore[arg-type]


def run_over(store: ArtifactStore, found: OutsideInventory, folder: Path) -> RunFile:
    """Return a run over the files, by way of RUN.json."""
    with Workers(1) as workers:
        ref = build(store, found.inventory.step, workers).ref
    run = run_of(store, ref, folder / "cache", files=found.files)
    return run_from_mapping(json.loads(run.to_json()))


def test_the_trainer_reads_the_files_in_the_order_of_the_patterns(store: ArtifactStore, folder: Path) -> None:
    run = run_over(store, outside_inventory(store, settings(folder)), folder)
    dataset = open_tokens(store, run)
    assert [dataset.chunk(i)[0] for i in range(6)] == [0, 8, 16, 100, 200, 208]
    assert [file.name for file in dataset.files] == ["ids/b/0.npy", "ids/b/1.npy", "ids/a/0.npy"]
    assert dataset.dropped_tokens == 1
    batch = Loader(dataset, run.recipe.data, batch=6).batch(0)
    for tokens, labels in zip(batch.tokens_BT.tolist(), batch.labels_BT.tolist(), strict=True):
        assert labels == [*(t if t % 100 % 3 else NO_TARGET for t in tokens[1:]), NO_TARGET]


def test_what_decides_the_chunks_is_the_identity(store: ArtifactStore, folder: Path) -> None:
    first = outside_inventory(store, settings(folder))
    remember(store, first.inventory)
    again = outside_inventory(store, settings(folder))
    assert (first.inventory.hashed, again.inventory.hashed) == (6, 0)
    moved = folder / "moved"
    for kind in ("ids", "masks"):
        os.renames(folder / kind, moved / kind)
    other_place = outside_inventory(store, settings(moved))
    assert first.inventory.step.ref == again.inventory.step.ref == other_place.inventory.step.ref
    others = [
        outside_inventory(store, settings(moved, masks=False)),
        outside_inventory(store, settings(moved, masks=False, dtype="uint8")),
        outside_inventory(store, OutsideTokens(name="elsewhere", paths=tuple(reversed(settings(moved).paths)))),
    ]
    np.arange(2 * LENGTH, dtype="uint16").tofile(moved / "ids" / "a" / "0.npy")
    others.append(outside_inventory(store, settings(moved)))
    assert len({first.inventory.step.ref, *(o.inventory.step.ref for o in others)}) == 5


def test_files_that_are_not_what_they_should_be_are_refused(store: ArtifactStore, folder: Path) -> None:
    ids = folder / "ids" / "a" / "0.npy"
    with pytest.raises(InputError, match="ids of type 'float32'; there are uint8"):
        outside_inventory(store, settings(folder, dtype="float32"))
    with pytest.raises(
        InputError, match=r"label mask .*masks/b/0.npy has 25 bytes, but .* has 12 tokens of uint32|no whole number"
    ):
        outside_inventory(store, settings(folder, dtype="uint32"))
    np.save(ids, np.arange(5, dtype="uint16"))
    with pytest.raises(InputError, match="a/0.npy has a numpy header, which would be read as tokens"):
        outside_inventory(store, settings(folder))
    ids.write_bytes(b"abc")
    with pytest.raises(InputError, match=r"3 bytes are no whole number of uint16 \(1 over\)"):
        outside_inventory(store, settings(folder))
    with pytest.raises(RecipeError, match="matches .* once more"):
        outside_inventory(store, OutsideTokens(name="x", paths=(f"{folder}/ids/b/*", f"{folder}/ids/b/1.npy")))
    with pytest.raises(InputError, match="3 files of ids, 1 label masks"):
        outside_inventory(
            store, OutsideTokens(name="x", paths=settings(folder).paths, label_masks=(f"{folder}/masks/a/0.npy",))
        )
    with pytest.raises(InputError, match="matches no file"):
        outside_inventory(store, OutsideTokens(name="x", paths=(f"{folder}/ids/none-*",)))


def test_the_trainer_refuses_files_that_are_no_longer_those_of_the_inventory(
    store: ArtifactStore, folder: Path
) -> None:
    run = run_over(store, outside_inventory(store, settings(folder)), folder)
    with pytest.raises(IntegrityError, match="they are not those of inventory/elsewhere/"):
        open_tokens(store, RunFile(**{**run.__dict__, "files": run.files[::-1]}))
    path = Path(run.files[0].path)
    raw = path.read_bytes()
    path.write_bytes(raw[:-2])
    with pytest.raises(InputError, match=r"b/0.npy was cut: it has 48 bytes, expected 50; put the file back"):
        open_tokens(store, run)
    path.write_bytes(raw[:-1] + b"\x01")
    with pytest.raises(InputError, match="was changed: its sha256"):
        open_tokens(store, run)
    path.write_bytes(raw)
    assert open_tokens(store, run).chunks == 6
