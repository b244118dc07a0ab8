"""Inspecting a run over token files made elsewhere: documents are told by the ends of text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from olmo_core.artifacts.build import build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.steps.token_files import OutsideTokens, outside_inventory
from olmo_core.errors import InputError
from olmo_core.train import token_index
from olmo_core.train.dataset import open_tokens
from olmo_core.train.inspection import Inspection
from olmo_core.train.loader import Loader
from olmo_core.workers import Workers
from tests.train.test_inspection import checkpoint_of
from tests.train.token_artifacts import run_of

END = 999


def test_documents_of_a_step_are_told_by_the_ends_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        token_index, "_BACK", 16
    )  # so that the search for a document's beginning goes back more than once
    random = np.random.default_rng(3)
    arrays = []
    for number in range(2):
        ids = np.arange(number * 400, number * 400 + 395, dtype="uint16")
        ids[random.random(395) < 0.03] = END
        ids.tofile(tmp_path / f"{number}.npy")
        arrays.append(ids)
    store = ArtifactStore(str(tmp_path / "store"))
    found = outside_inventory(store, OutsideTokens(name="elsewhere", paths=(f"{tmp_path}/*.npy",)))
    with Workers(1) as workers:
        ref = build(store, found.inventory.step, workers).ref
    run = run_of(store, ref, tmp_path / "cache", files=found.files)
    store.storage.put(f"{run.ref.address}/run.json", run.to_json().encode())
    dataset = open_tokens(store, run)
    loader = Loader(dataset, run.recipe.data, batch=run.recipe.batch)
    inspection = Inspection(store, checkpoint_of(store, run, 20, dataset.fingerprint, ()))
    for step in range(1, 21):
        tokens = loader.batch(step - 1).tokens_BT.numpy()
        pieces = inspection.step(step)
        covered = np.zeros(tokens.shape, int)
        for p in pieces:
            covered[p.row, p.position : p.position + p.tokens] += 1
            ids = arrays[int(p.source[0])]
            assert (
                tokens[p.row, p.position : p.position + p.tokens].tolist() == ids[p.first : p.first + p.tokens].tolist()
            )
            start = p.first - p.begins
            assert start == 0 or ids[start - 1] == END
            assert END not in ids[start : p.first + p.tokens - 1]
            whole = p.length is not None
            assert whole == (ids[p.first + p.tokens - 1] == END)
            assert p.id is None and (not whole or p.length == p.begins + p.tokens)
        assert (covered == 1).all()
    with pytest.raises(InputError, match="files made elsewhere, which have no index of documents"):
        inspection.document("any")
