"""Which documents a step saw, and which steps a document, beside a brute-force reading of the tokens that were trained on."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from flows.command import main
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, IntegrityError, RecipeError
from olmo_core.model.config import ModelRecipe, preset
from olmo_core.recipe import canonical
from olmo_core.train.dataset import open_tokens
from olmo_core.train.inspection import Inspection, newest_checkpoints, resolve_checkpoint
from olmo_core.train.loader import Loader
from olmo_core.train.recipe import DataRecipe, TrainRecipe
from olmo_core.train.run_file import DONE, RunFile, TrainResources
from olmo_core.train.session import train
from olmo_core.train.state import TrainState
from tests.small_corpus import Run

END, LENGTH, BATCH = 50279, 256, 8
SKIPPED = ((3, 5), (60, 61))
STEPS = 70
"""More than an epoch of the small corpus."""


@dataclass(frozen=True)
class Trained:
    """A run over the small corpus, its data read as the trainer reads it, and a checkpoint of it."""

    store: ArtifactStore
    run: RunFile
    checkpoint: Manifest
    batches: dict[int, npt.NDArray[np.int64]]
    """Tokens (B, T) of each step."""
    loader: Loader


def checkpoint_of(store: ArtifactStore, run: RunFile, step: int, dataset: str, skipped: Any = SKIPPED) -> Manifest:
    """Publish a checkpoint's manifest, without tensors."""
    after = [i for i in range(1000) if not any(a <= i < b for a, b in skipped)]
    state = TrainState(
        step=step, tokens=step * BATCH * LENGTH, next_batch=after[step - 1] + 1, skipped=skipped, dataset=dataset
    )
    manifest = Manifest(
        ref=run.checkpoint(step), stage="checkpoint", version=1,
        recipe={**canonical(run.recipe), "run": run.ref.fingerprint, "step": step}, inputs=run.inputs, attempt="attempt-x", shards=(),
        ledger=Ledger(), counts={**state.to_json(), "loss": 1.0},
    )  # fmt: skip
    store.publish(manifest)
    return manifest


@pytest.fixture(scope="module")
def trained(small: Run, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Checkpoints lie in a store of their own, as the corpus is shared: its tokens are read from there by a link."""
    folder = tmp_path_factory.mktemp("trained")
    store = ArtifactStore(str(folder / "store"))
    (folder / "store").mkdir()
    for kind in ("tokens", "attributes", "corpus"):
        (folder / "store" / kind).symlink_to(Path(small.store.uri) / kind)
    recipe = TrainRecipe(
        name="seen",
        model=preset("tiny"),
        tokens=STEPS * BATCH * LENGTH,
        batch=BATCH,
        data=DataRecipe(sequence_length=LENGTH),
    )
    resources = TrainResources(cache=str(folder / "cache"))
    run = RunFile(store=store.uri, recipe=recipe, tokens=small.manifest("packing/all").ref, resources=resources)
    dataset = open_tokens(store, run)
    loader = Loader(dataset, recipe.data, batch=BATCH)
    left = [i for i in range(200) if not any(a <= i < b for a, b in SKIPPED)]
    batches = {step: loader.batch(left[step - 1]).tokens_BT.numpy() for step in range(1, STEPS + 1)}
    checkpoint = checkpoint_of(store, run, STEPS - 2, dataset.fingerprint)
    checkpoint_of(store, run, 9, dataset.fingerprint)
    return Trained(store, run, checkpoint, batches, loader)


@pytest.fixture(scope="module")
def owners(small: Run, trained: Trained) -> dict[tuple[int, int], tuple[str, str, int, int, int]]:
    """Source, id, copy, token within the document, and its length, of every token in a chunk, by (chunk, position).

    By reading all ids between ends of text, and asking which row of the corpus has a document of just these ids: by its
    place in the shuffle where copies have the same.
    """
    rows: dict[tuple[int, ...], set[tuple[str, str]]] = defaultdict(set)
    for one in small.manifest("tokenization/all").objects:
        if one.key.endswith(".ids"):
            continue
        ids = np.fromfile(
            f"{small.store.uri}/{small.manifest('tokenization/all').object(one.key + '.ids').path}", np.uint16
        )
        corpus = small.rows("mixing/all", one.key)
        for record in small.rows("tokenization/all", one.key):
            tokens = tuple(ids[record["start"] : record["start"] + record["length"]].tolist())
            rows[tokens].add((one.key.split("/")[0], corpus[record["row"]]["id"]))
    found = {}
    chunk = 0
    for one in small.manifest("packing/all").objects:
        if not one.key.endswith(".npy"):
            continue
        ids = np.fromfile(f"{small.store.uri}/{one.path}", np.uint16)
        ends = (np.flatnonzero(ids == END) + 1).tolist()
        for start, end in zip([0, *ends], ends, strict=False):
            (owner,) = rows[tuple(ids[start:end].tolist())]
            for at in range(start, end):
                if at < len(ids) // LENGTH * LENGTH:
                    found[chunk + at // LENGTH, at % LENGTH] = (*owner, at - start, end - start)
        chunk += len(ids) // LENGTH
    return found  # type: ignore[return-value]


def test_the_documents_of_every_step_are_those_of_its_tokens(trained: Trained, owners: Any) -> None:
    inspection = Inspection(trained.store, trained.checkpoint)
    dataset = trained.loader.dataset
    seen_documents = set()
    for step, tokens_BT in trained.batches.items():
        pieces = inspection.step(step)
        assert [p.position for p in pieces if p.position == 0] == [0] * BATCH
        covered = np.zeros((BATCH, LENGTH), int)
        for p in pieces:
            covered[p.row, p.position : p.position + p.tokens] += 1
            assert tokens_BT[p.row].tolist() == dataset.chunk(p.chunk).tolist()
            for at in range(p.tokens):
                assert owners[p.chunk, p.position + at] == (p.source, p.id, p.begins + at, p.length)
            assert p.url == f"https://example.org/{p.id}"
            seen_documents.add(f"{p.source}/{p.id}")
        assert (covered == 1).all()
    assert len(seen_documents) > 100


def test_the_steps_of_every_document_are_those_whose_tokens_have_it(trained: Trained, owners: Any) -> None:
    inspection = Inspection(trained.store, trained.checkpoint)
    appearances: dict[str, set[tuple[int, int, int]]] = defaultdict(set)
    chunks: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for (chunk, position), (source, identifier, *_) in owners.items():
        chunks[chunk].append((position, f"{source}/{identifier}"))
    for step in range(1, inspection.state.step + 1):
        index = inspection.batch(step)
        for row, chunk in enumerate(trained.loader.instances(index).tolist()):
            for position, document in chunks[chunk]:
                appearances[document].add((step, row, position))
    for document in [*sorted(appearances)[::9], "wiki/w0-0"]:
        found = inspection.document(document)
        positions = {
            (one.step, one.piece.row, at)
            for one in found.seen if one.step is not None
            for at in range(one.piece.position, one.piece.position + one.piece.tokens)
        }  # fmt: skip
        assert positions == appearances[document]
        assert found.steps == sorted({step for step, *_ in appearances[document]})
        assert found.document == document and {one.piece.id for one in found.seen} == {document.split("/")[1]}
    repeated = [inspection.document(d) for d in sorted(appearances)[::9]]
    assert any(one.piece.copy for found in repeated for one in found.seen), "no copy was looked at"
    assert any(len(found.steps) > len({one.piece.chunk for one in found.seen}) for found in repeated), "no second epoch"


def test_batches_that_were_left_out_and_tails_are_told(trained: Trained, owners: Any) -> None:
    inspection = Inspection(trained.store, trained.checkpoint)
    chunk = int(trained.loader.instances(3)[0])
    source, identifier, *_ = owners[chunk, 100]
    found = inspection.document(f"{source}/{identifier}")
    assert [one.batch for one in found.seen if one.step is None and one.piece.chunk == chunk] == [3]
    assert [one for one in inspection.document(identifier).seen if one.piece.source == source] == list(found.seen)
    dataset = trained.loader.dataset
    every = {f"{s}/{i}" for s, i, *_ in owners.values()}
    counted = [inspection.document(d) for d in sorted(every)]
    lost = dataset.dropped_tokens - sum(c.tokens_in_tails for c in counted)
    assert 0 <= lost < dataset.dropped_tokens  # the rest is of documents that lie in tails only
    assert sum(c.tokens for c in counted) == dataset.tokens - lost


def test_what_does_not_fit_together_is_refused(trained: Trained) -> None:
    store, checkpoint = trained.store, trained.checkpoint
    inspection = Inspection(store, checkpoint)
    with pytest.raises(RecipeError, match="the run has the steps 1 to 70"):
        inspection.step(71)
    with pytest.raises(InputError, match="has no document 'nobody'"):
        inspection.document("nobody")
    with pytest.raises(IntegrityError, match="was trained on chunks abc, but"):
        Inspection(store, replace(checkpoint, counts={**checkpoint.counts, "dataset": "abc"}))
    with pytest.raises(IntegrityError, match="which does not follow from the batches left out"):
        Inspection(store, replace(checkpoint, counts={**checkpoint.counts, "skipped": []}))
    with pytest.raises(RecipeError, match="is no checkpoint"):
        resolve_checkpoint(store, str(trained.run.tokens))
    assert [m.ref for m in newest_checkpoints(store)] == [checkpoint.ref]


def test_the_command_shows_both_ways(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    inspection = Inspection(trained.store, trained.checkpoint)
    address = ["--store", trained.store.uri]
    name = f"checkpoint/seen/{trained.checkpoint.ref.fingerprint[:12]}"
    assert main.main(["inspect", "step", name, "2", "--json", *address]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["documents"] == [piece.to_json() for piece in inspection.step(2)]
    assert (shown["step"], shown["batch"], shown["trained"], shown["epoch"]) == (2, 1, True, 0)
    document = f"{shown['documents'][0]['source']}/{shown['documents'][0]['id']}"
    assert main.main(["inspect", "document", document, "--json", *address]) == 0
    (about,) = json.loads(capsys.readouterr().out)
    assert about == {
        "checkpoint": name,
        "at_step": STEPS - 2,
        **json.loads(json.dumps(inspection.document(document).to_json())),
    }
    assert 2 in about["steps"]
    assert main.main(["inspect", "step", name, str(STEPS), *address]) == 0
    text = capsys.readouterr().out
    assert (
        f"step {STEPS}, not trained yet: the checkpoint is of step {STEPS - 2}" in text
        and "https://example.org/" in text
    )
    assert main.main(["inspect", "document", document, "--run", name, *address]) == 0
    assert f"steps saw {document}" in capsys.readouterr().out
    assert main.main(["inspect", "document", "nobody", *address]) == 1
    assert "has no document 'nobody'" in capsys.readouterr().err
    # Another run's tokens are gone: it is named, and the others answer.
    gone = replace(
        trained.run,
        recipe=replace(trained.run.recipe, name="lost"),
        tokens=replace(trained.run.tokens, fingerprint="0" * 64),
    )
    lost = checkpoint_of(trained.store, gone, 9, "d")
    try:
        assert main.main(["inspect", "document", document, "--json", *address]) == 0
        printed = capsys.readouterr()
        assert [one["checkpoint"] for one in json.loads(printed.out)] == [name]
        assert f"{lost.ref} cannot be asked:" in printed.err and "tokens/" in printed.err
        assert main.main(["inspect", "document", document, "--run", "lost", *address]) == 1
    finally:
        trained.store.storage.delete(lost.ref.manifest_path)


@pytest.mark.slow
def test_a_real_run_with_a_rollback_is_told_as_it_was_trained(trained: Trained, owners: Any) -> None:
    """Checkpoints by the trainer: the batch of each step is the one that it trained on last, after four bad ones were left out."""
    model = ModelRecipe(width=8, layers=1, heads=2, mlp_width=8, context=LENGTH, tied=True)
    recipe = replace(
        trained.run.recipe,
        name="rolled-back",
        model=model,
        tokens=20 * BATCH * LENGTH,
        precision="float32",
        skip_limit=4,
    )
    resources = replace(trained.run.resources, device="cpu", save_every=5)
    run = replace(trained.run, recipe=recipe, resources=resources)
    used: dict[int, int] = {}

    def hook(step: int, index: int, loss: torch.Tensor) -> torch.Tensor:
        used[step] = index
        return loss * float("nan") if 8 <= index < 12 else loss

    assert train(run, hook=hook) == DONE
    inspection = Inspection(trained.store, resolve_checkpoint(trained.store, "rolled-back"))
    assert inspection.state.step == 20 and inspection.state.skipped == ((8, 12),)
    assert [inspection.batch(step) for step in used] == list(used.values()) and len(used) == 20
    for step, index in used.items():
        chunks = trained.loader.instances(index).tolist()
        expected = {(row, owners[chunk, at][1]) for row, chunk in enumerate(chunks) for at in range(LENGTH)}
        assert {(piece.row, piece.id) for piece in inspection.step(step)} == expected
