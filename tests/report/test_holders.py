"""Who has a document: looked up in shards, in every version, and followed into what was trained on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from flows.command import main
from olmo_core import assets
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.lineage import TRAINED, downstream, forward
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.takedown import Requests
from olmo_core.documents.shards import read_shard
from olmo_core.errors import IntegrityError
from olmo_core.report.holders import holders
from olmo_core.tokens.tokenizer import Tokenizer
from olmo_core.workers import Workers
from tests.small_corpus import Run, build_all, load, small_recipe

GONE = ("wiki/w0-2", "https://example.org/d1-3")
"""The second is `web/d1-3` by its URL."""


def publish(store: ArtifactStore, kind: Kind, name: str, **inputs: ArtifactRef) -> ArtifactRef:
    """Put the manifest of something that a later stage will make."""
    ref = ArtifactRef(kind=kind, name=name, fingerprint=name.encode().hex().ljust(64, "0"))
    store.publish(
        Manifest(ref=ref, stage=str(kind), version=1, recipe={}, inputs=inputs, attempt="a", shards=(), ledger=Ledger())
    )
    return ref


@pytest.fixture(scope="module")
def store(small: Run, tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> ArtifactStore:
    """Two versions of the small corpus, before and after a takedown, and what might be trained on the first."""
    folder = tmp_path_factory.mktemp("holders") / "corpus"
    shutil.copytree(small.folder, folder)
    found = ArtifactStore(str(folder / "store"))
    (folder / "list.txt").write_text("\n".join(GONE))
    recipe = load(folder, small_recipe(folder, takedown={"paths": [str(folder / "list.txt")]}))
    later = build_all(found, recipe, workers)
    tokens = small.built["packing/all"].ref
    run = publish(found, Kind.RUN, "olmo-1b", tokens=tokens)
    checkpoint = publish(found, Kind.CHECKPOINT, "olmo-1b", run=run)
    publish(found, Kind.MODEL, "olmo-1b-hf", checkpoint=checkpoint)
    publish(found, Kind.EVALUATION, "olmo-1b", checkpoint=checkpoint)
    publish(found, Kind.RUN, "clean", tokens=later["packing/all"].ref)
    found.tag(later["mixing/all"].ref, "latest")
    return found


def has(store: ArtifactStore, *documents: str) -> dict[tuple[str, str, str], list[Any]]:
    """Kind, name and answer, with the holders."""
    found: dict[tuple[str, str, str], list[Any]] = {}
    for one in holders(store, Requests.of(documents)):
        found.setdefault((str(one.manifest.ref.kind), one.manifest.ref.name, one.has), []).append(one)
    return found


def test_every_artifact_with_the_document_and_versions_without(store: ArtifactStore, small: Run) -> None:
    found = has(store, *GONE)
    assert found.keys() == {
        ("documents", "web", "yes"),
        ("documents", "wiki", "yes"),
        ("attributes", "small-tokenization", "yes"),
        ("attributes", "small-tokenization", "no"),
        ("corpus", "small", "yes"),
        ("corpus", "small", "no"),
        ("tokens", "small", "yes"),
        ("tokens", "small", "no"),
        *((kind, name, "made from it") for kind, name in (("run", "olmo-1b"), ("checkpoint", "olmo-1b"))),
        ("model", "olmo-1b-hf", "made from it"),
        ("evaluation", "olmo-1b", "made from it"),
    }
    (corpus,) = found["corpus", "small", "yes"]
    assert corpus.manifest.ref == small.built["mixing/all"].ref
    assert corpus.documents == {"wiki/w0-2", "web/d1-3"}
    assert all(len(some) == 1 for some in found.values())


def test_places_are_where_rows_and_tokens_are(store: ArtifactStore, small: Run) -> None:
    """Tokens at the place named are those that the tokenizer makes of the text."""
    found = has(store, "wiki/w0-2")
    (corpus,) = found["corpus", "small", "yes"]
    texts = []
    for place in corpus.places:
        table = read_shard(store.storage, place.shard)
        assert table["id"][place.row].as_py() == "w0-2"
        texts.append(table["text"][place.row].as_py())
    mixed = [r for r in small.rows("mixing/all") if r["id"] == "w0-2"]
    assert len(corpus.places) == len(mixed) >= 1
    tokenizer = Tokenizer.from_file(assets.fetch("olmo-tokenizer"))
    ids, _ = tokenizer.encode(pa.array(texts[:1], pa.large_string()))
    for label in (("tokens", "small", "yes"), ("attributes", "small-tokenization", "yes")):
        (one,) = found[label]
        assert len(one.places) == len(corpus.places)
        for place in one.places:
            stored = np.frombuffer(store.storage.read(place.shard), np.uint16)
            own = stored[place.start : place.start + place.length]
            assert own[:-1].tolist() == ids.tolist() and own[-1] == tokenizer.end_of_text_id


def test_a_report_that_shows_a_document_has_it(store: ArtifactStore, small: Run) -> None:
    one = small.manifest("report/all").object("report.json")
    example = json.loads(store.storage.read(one.path))["examples"]["dropped"][0]
    found = has(store, f"{example['source']}/{example['id']}")
    assert ("report", "small", "yes") in found and ("corpus", "small", "yes") not in found


def test_nobody_has_what_was_never_there(store: ArtifactStore) -> None:
    assert holders(store, Requests.of(["web/never", "http://example.org/never"])) == []


def test_downstream_follows_inputs_nearest_first_and_kinds_only(store: ArtifactStore, small: Run) -> None:
    documents = small.built["documents/wiki"].ref
    made = downstream(store, [documents])
    depths = [one.depth for one in made.values()]
    assert depths == sorted(depths) and small.built["packing/all"].ref in made
    assert list(made.values()) == list(forward(store, documents))
    assert {r.kind for r in made} >= {Kind.CORPUS, Kind.TOKENS, Kind.RUN, Kind.CHECKPOINT}
    assert downstream(store, [documents], TRAINED) == {}, "nothing was trained on the documents themselves"
    trained = downstream(store, [small.built["packing/all"].ref], TRAINED)
    assert [(str(r.kind), one.depth) for r, one in trained.items()] == [
        ("run", 1), ("checkpoint", 2), ("model", 3), ("evaluation", 3)
    ]  # fmt: skip


def test_a_real_run_and_its_checkpoints_are_made_from_it(store: ArtifactStore, small: Run, tmp_path: Path) -> None:
    from olmo_core.train import run_artifact
    from tests.train.small_run import Trainer, run_file

    copy = ArtifactStore(str(shutil.copytree(store.uri, tmp_path / "store")))
    wanted = run_file(copy.uri, name="real", dataset=small.built["packing/all"].ref)
    trainer = Trainer(wanted, shard=False)
    trainer.save()
    trainer.train(1)
    trainer.save()
    run_artifact.publish(copy, wanted, trainer.epoch, trainer.state())
    found = has(copy, "wiki/w0-2")
    checkpoints = {one.manifest.ref: one.role for one in found["checkpoint", "real", "made from it"]}
    assert checkpoints == {wanted.checkpoint(0): "tokens", wanted.checkpoint(1): "tokens"}
    (one,) = found["run", "real", "made from it"]
    assert one.manifest.ref == wanted.ref and ("run", "clean", "made from it") not in found


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main.main(["artifacts", "lineage", *words])
    return code, "".join(capsys.readouterr())


def test_the_command_line_shows_it(store: ArtifactStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(GONE) + "\nweb/never\n")
    code, text = run(capsys, "--takedown", str(listed), "--store", store.uri)
    assert code == 0 and "corpus/small/" in text and "made from it" in text and "latest" in text
    assert (
        "2 documents found for 3 entries; 5 artifacts have some of them, 3 other versions have none, 4 were made"
        in text
    )
    code, text = run(capsys, "--document", "w0-2", "--store", store.uri)
    assert code == 0 and "1 document found for 1 entry; " in text
    code, text = run(capsys, "--document", "w0-2", "--store", store.uri, "--json")
    data = json.loads(text)
    assert code == 0 and data["asked"] == ["w0-2"]
    assert {tuple(a["documents"]) for a in data["artifacts"] if a["has"] == "yes"} == {("wiki/w0-2",)}
    code, text = run(capsys, "--document", "web/never", "--store", store.uri)
    assert code == 0 and "nothing in" in text
    code, text = run(capsys, "--store", store.uri)
    assert code == 2 and "name an artifact" in text
    code, text = run(capsys, "corpus/small", "--document", "x", "--store", store.uri)
    assert code == 2 and "not both" in text
    code, text = run(capsys, "--takedown", str(tmp_path / "none.txt"), "--store", store.uri)
    assert code == 1 and "none.txt" in text


@pytest.mark.parametrize("stage", ["packing", "tokenization"])
def test_tokens_whose_corpus_is_gone_are_an_error_and_not_a_no(stage: str, tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    gone = ArtifactRef(kind=Kind.CORPUS, name="small", fingerprint="0" * 64)
    ref = ArtifactRef(kind=Kind.TOKENS, name="small", fingerprint="1" * 64)
    inputs = {"tokenization" if stage == "packing" else "corpus": gone}
    store.publish(
        Manifest(ref=ref, stage=stage, version=1, recipe={}, inputs=inputs, attempt="a", shards=(), ledger=Ledger())
    )
    with pytest.raises(IntegrityError, match="is not in the store, so nobody can say which documents"):
        holders(store, Requests.of(GONE))
