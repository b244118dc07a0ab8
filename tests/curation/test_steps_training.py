"""A classifier trained from labelled data, published as an artifact, and used by the content stage of a chain."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from olmo_core.artifacts.build import build
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import Chain, resolve_models
from olmo_core.curation.classifier import ClassifierRecipe
from olmo_core.curation.content import Classifier, ContentRecipe
from olmo_core.curation.labelled import LabelRecipe
from olmo_core.curation.splits import RESERVED, numbers
from olmo_core.curation.steps.inputs import take_inventory
from olmo_core.curation.steps.training import (
    METRICS,
    TrainClassifierRecipe,
    background_texts,
    labelled_inventory,
    training_step,
)
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError, RecipeError
from olmo_core.storage import Storage
from olmo_core.workers import Workers
from tests.curation.tiny_classifier import examples
from tests.small_corpus import load, small_recipe, write_jsonl


@pytest.fixture
def recipe(tmp_path: Path) -> TrainClassifierRecipe:
    texts, positive = examples()
    path = tmp_path / "labelled.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["comment", "kind"])
        writer.writerows(
            [t, "rude" if p else "kind"] for t, p in zip(texts.to_pylist(), positive.tolist(), strict=True)
        )
    return TrainClassifierRecipe(
        name="rude",
        data=str(path),
        labels=LabelRecipe(text="comment", label="kind", positive=("rude",), negative=("kind",)),
        training=ClassifierRecipe(label="rude", buckets=1000, dim=4, epochs=20, rate=0.5),
    )


def test_trained_model_runs_in_the_chain(recipe: TrainClassifierRecipe, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    with Workers(1) as workers:
        inventory = labelled_inventory(store, recipe)
        build(store, inventory.step, workers)
        model = build(store, training_step(recipe, inventory, None), workers)
        metrics = json.loads(store.storage.read(model.manifest.object(METRICS).path))
        assert metrics["held_out"]["f1"]["value"] > 0.9
        assert build(store, training_step(recipe, labelled_inventory(store, recipe), None), workers).reused
        store.tag(model.ref, "latest")

        folder = tmp_path / "corpus"
        folder.mkdir()
        texts = {
            "nice": "What a kind and lovely day it is. Thank you, my good friend.",
            "nasty": "The sun is warm today. Go away, you nasty grumblenut!",
        }
        data = small_recipe(folder)
        write_jsonl(folder / "data" / "web" / "one.jsonl", [{"id": i, "text": t} for i, t in texts.items()])
        source = {"read": {"kind": "dolma-jsonl", "name": "web", "paths": [str(folder / "data" / "web" / "one.jsonl")]}}
        corpus = load(folder, {**data, "sources": [source]})
        content = ContentRecipe(
            kind="classifier", classifiers=(Classifier(name="rude", model="model/rude@latest", label="rude"),)
        )
        corpus, models = resolve_models(store, replace(corpus, content=content))
        assert corpus.content.classifiers[0].model == str(model.ref), "the tag is resolved once, for the fingerprint"
        chain = Chain(recipe=corpus, inventories={"web": take_inventory(store, corpus.sources[0].read)}, models=models)
        for stage in ("inventory", "documents", "language", "content"):
            built = build(store, chain.step(stage, "web"), workers)
        assert built.manifest.inputs["model-rude"] == model.ref
        rows = pa.concat_tables([read_shard(store.storage, o.path) for o in built.manifest.objects]).to_pylist()
    ids = ["nice", "nasty"]
    scores = dict(zip(ids, (r["rude_max"] for r in rows), strict=True))
    assert scores["nasty"] > 0.8 > 0.3 > scores["nice"]
    (span,) = next(r["rude_spans"] for r in rows if r["rude_spans"])
    assert texts["nasty"][span["start"] : span["end"]] == "Go away, you nasty grumblenut!"


def test_a_model_that_is_not_there_is_named_before_anything_runs(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    folder = tmp_path / "corpus"
    folder.mkdir()
    content = ContentRecipe(
        kind="classifier", classifiers=(Classifier(name="rude", model="model/rude@latest", label="rude"),)
    )
    with pytest.raises(RecipeError, match="there is no model/rude"):
        resolve_models(store, replace(load(folder, small_recipe(folder)), content=content))


def test_a_pattern_that_matches_several_files_is_refused(recipe: TrainClassifierRecipe, tmp_path: Path) -> None:
    (tmp_path / "labelled2.csv").write_text("comment,kind\n")
    with pytest.raises(InputError, match="matches 2 files"):
        labelled_inventory(
            ArtifactStore(str(tmp_path / "store")), replace(recipe, data=str(tmp_path / "labelled*.csv"))
        )


def test_background_has_nothing_that_may_be_held_out(tmp_path: Path) -> None:
    """Neither the documents with low numbers, whatever a recipe holds out of them, nor copies under other names."""
    output = Output(Storage(str(tmp_path)), "shards")
    ids = [str(i) for i in range(400)]
    for part in (0, 1):
        texts = [f"text {int(i) % 380}" for i in ids[part::2]]
        output.table(str(part), pa.table({"id": ids[part::2], "text": pa.array(texts, pa.large_string())}))
    shards = [("web", o.path) for o in output.objects]
    low = {i for i, number in zip(ids, numbers("web", ids), strict=True) if number < RESERVED}
    copies = {i for i in ids if any(int(i) % 380 == int(one) % 380 for one in low)}
    assert 20 < len(low) < len(copies) < 80
    kept = background_texts(output.storage, shards, RESERVED)
    assert kept is not None
    assert sorted(kept.to_pylist()) == sorted(f"text {int(i) % 380}" for i in ids if i not in copies)
    assert background_texts(output.storage, [], RESERVED) is None


@pytest.mark.parametrize(
    ("kind", "split", "message"),
    [
        (Kind.CORPUS, "validation", "is the held-out split 'validation': nothing may be trained on it"),
        (Kind.ATTRIBUTES, None, "is neither a corpus nor documents"),
    ],
)
def test_a_held_out_split_is_no_background(
    recipe: TrainClassifierRecipe, tmp_path: Path, kind: Kind, split: str | None, message: str
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    ref = ArtifactRef(kind=kind, name="web-validation", fingerprint="0" * 64)
    own = {"split": split} if split else {}
    store.publish(
        Manifest(ref=ref, stage="mixing", version=1, recipe=own, inputs={}, attempt="", shards=(), ledger=Ledger())
    )
    with Workers(1) as workers:
        inventory = labelled_inventory(store, recipe)
        build(store, inventory.step, workers)
        with pytest.raises((InputError, RecipeError), match=message):
            build(store, training_step(recipe, inventory, ref), workers)
    assert not list(store.finished("model"))
