"""Held-out documents end to end: in no training artifact, in their own ones once, and the same ones tomorrow."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.plan import plan
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.layout import IDS, INDEX, NPY
from olmo_core.curation.splits import numbers, refuse_held_out
from olmo_core.curation.steps.mixing import mixing_step
from olmo_core.curation.steps.splits import Guard
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError, IntegrityError
from olmo_core.report.explain import explain
from olmo_core.report.waterfall import waterfall
from olmo_core.workers import Workers
from tests.small_corpus import Record, Run, build_all, chain_of, load, passages, record, small_recipe, write_jsonl

VALIDATION, TEST = 0.06, 0.04
HELD_OUT = [{"name": "validation", "fraction": VALIDATION}, {"name": "test", "fraction": TEST}]
Ids = set[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """The small corpus with held-out splits, in a folder of its own."""

    folder: Path
    store: ArtifactStore
    built: dict[str, Built]

    def rows(self, label: str) -> list[tuple[str, Record]]:
        """Source and row, of all Parquet shards of an artifact."""
        objects = [o for o in self.built[label].manifest.objects if o.path.endswith(".parquet")]
        return [(o.key.split("/")[0], r) for o in objects for r in read_shard(self.store.storage, o.path).to_pylist()]

    def corpus(self, split: str = "all") -> Ids:
        return {(source, row["id"]) for source, row in self.rows(f"mixing/{split}")}

    def tokens(self, split: str = "all") -> Ids:
        """Ids of the documents that the token index points at."""
        mixed = {o.key: o.path for o in self.built[f"mixing/{split}"].manifest.objects}
        found = set()
        for one in self.built[f"packing/{split}"].manifest.objects:
            if one.key.endswith(INDEX):
                for r in read_shard(self.store.storage, one.path).to_pylist():
                    table = read_shard(self.store.storage, mixed[r["shard"]], ["id"])
                    found.add((r["source"], table["id"][r["row"]].as_py()))
        return found

    def held_out(self) -> Ids:
        return self.corpus("validation") | self.corpus("test")


def aligned(run: Corpus, source: str, label: str) -> dict[str, Record]:
    """The rows of an artifact of all sources, by the id of the document."""
    found = {}
    for one in run.built[f"documents/{source}"].manifest.objects:
        if not one.key.endswith("quarantine"):
            ids = read_shard(run.store.storage, one.path, ["id"])["id"].to_pylist()
            other = run.built[label].manifest.object(f"{source}/{one.key}")
            found |= dict(zip(ids, read_shard(run.store.storage, other.path).to_pylist(), strict=True))
    return found


def own_split(source: str, identifier: str) -> str:
    """The split by the document's own number."""
    value = numbers(source, [identifier])[0]
    return "validation" if value < VALIDATION else "test" if value < VALIDATION + TEST else "train"


def make(folder: Path, workers: Workers, **changes: Any) -> Corpus:
    store = ArtifactStore(str(folder / "store"))
    recipe = load(folder, small_recipe(folder, **{"held_out": HELD_OUT, **changes}))
    return Corpus(folder=folder, store=store, built=build_all(store, recipe, workers))


@pytest.fixture(scope="module")
def held(small: Run, tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> Corpus:
    """Built upon the small corpus. Tests may not change it."""
    folder = tmp_path_factory.mktemp("held") / "corpus"
    shutil.copytree(small.folder, folder)
    return make(folder, workers)


@pytest.fixture
def copied(held: Corpus, tmp_path: Path) -> Path:
    shutil.copytree(held.folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_stages_before_the_splits_are_those_of_a_recipe_without(small: Run, held: Corpus) -> None:
    """And without splits there is no such stage."""
    new = {label for label, b in held.built.items() if not b.reused}
    assert new == {"splits/all", "report/all"} | {
        f"{stage}/{split}" for stage in ("mixing", "tokenization", "packing") for split in ("all", "validation", "test")
    } | {"mixture/all"}
    assert not [label for label in small.built if "splits" in label or "validation" in label]


def test_training_and_held_out_are_the_survivors_each_in_one_place(held: Corpus) -> None:
    survivors = {
        (source, identifier)
        for source in ("web", "wiki")
        for identifier, verdict in aligned(held, source, "near-duplicates/all").items()
        if verdict["keep"]
    }
    parts = [held.corpus(split) for split in ("all", "validation", "test")]
    assert set.union(*parts) == survivors and sum(map(len, parts)) == len(survivors)
    assert all(parts)
    for split in ("all", "validation", "test"):
        assert held.tokens(split) == held.corpus(split)
    assert max(row["copy"] for _, row in held.rows("mixing/all")) == 1, "wiki is repeated in training"
    assert {row["copy"] for split in ("validation", "test") for _, row in held.rows(f"mixing/{split}")} == {0}


def test_each_survivor_is_where_its_number_or_that_of_a_dropped_copy_says(held: Corpus) -> None:
    expected: dict[tuple[str, str], float] = {}
    verdicts = {source: aligned(held, source, "near-duplicates/all") for source in ("web", "wiki")}
    for source, rows in verdicts.items():
        for identifier, verdict in rows.items():
            whose = (source, identifier) if verdict["keep"] else verdict["duplicate_of"]
            if whose:
                place = whose if isinstance(whose, tuple) else tuple(whose.split("/", 1))
                expected[place] = min(expected.get(place, 1.0), numbers(source, [identifier])[0])
    said = {
        (source, identifier): row["split"]
        for source in ("web", "wiki")
        for identifier, row in aligned(held, source, "splits/all").items()
        if row["split"]
    }
    limits = [("validation", VALIDATION), ("test", VALIDATION + TEST), ("train", 1.0)]
    assert said == {place: next(n for n, top in limits if value < top) for place, value in expected.items()}
    counts = held.built["splits/all"].manifest.counts["splits"]
    assert {name: c["documents"] for name, c in counts.items()} == {
        name: sum(split == name for split in said.values()) for name, _ in limits
    }


def test_manifests_say_their_split_and_trainers_refuse(held: Corpus) -> None:
    for stage in ("mixing", "packing"):
        refuse_held_out(held.built[f"{stage}/all"].manifest)
        for split in ("validation", "test"):
            manifest = held.built[f"{stage}/{split}"].manifest
            assert manifest.recipe["split"] == split and manifest.ref.name == f"small-{split}"
            with pytest.raises(InputError, match="nothing may be trained on it"):
                refuse_held_out(manifest)


def test_held_out_text_is_masked_like_that_of_training(held: Corpus, small: Run) -> None:
    before = {(key.split("/")[0], r["id"]): r["text"] for key, r in _keyed(small)}
    for split in ("all", "validation", "test"):
        for source, row in held.rows(f"mixing/{split}"):
            assert row["text"] == before[source, row["id"]]


def _keyed(run: Run) -> list[tuple[str, Record]]:
    objects = run.manifest("mixing/all").objects
    return [(o.key, r) for o in objects for r in read_shard(run.store.storage, o.path).to_pylist()]


def test_waterfall_report_and_explain_show_the_splits(held: Corpus) -> None:
    manifests = {label: built.manifest for label, built in held.built.items()}
    lines = {(line.stage, line.source, line.what): line for line in waterfall(manifests)}
    for split in ("validation", "test"):
        documents = len(held.corpus(split))
        assert lines["mixing", "all", f"held out: {split}"].documents == documents
        assert lines["mixing", split, "in"].documents == lines["packing", split, "kept"].documents == documents
        assert lines["packing", split, "kept"].tokens == manifests[f"packing/{split}"].counts["tokens"]
    report = json.loads(held.store.storage.read(manifests["report/all"].object("report.json").path))
    assert report["held_out"]["validation"]["documents"] == len(held.corpus("validation"))
    page = held.store.storage.read(manifests["report/all"].object("report.md").path).decode()
    assert page.startswith(f"# Corpus small\n\n**{manifests['packing/all'].counts['tokens']:,} tokens**")
    assert "## Held out" in page and "| 6.00% |" in page
    html = held.store.storage.read(manifests["report/all"].object("report.html").path).decode()
    assert '<section id="held-out">' in html and "<bdi>validation</bdi>" in html
    ((source, identifier), *_) = sorted(held.corpus("validation"))
    held.store.tag(held.built["report/all"].ref, "latest")
    (found,) = explain(held.store, "small", f"{source}/{identifier}")
    assert found["split"] == "validation" and "small-validation" in found["tokens"][0]["shard"]
    (found,) = explain(held.store, "small", "/".join(min(held.corpus())))
    assert found["split"] == "train" and "small-" not in found["tokens"][0]["shard"]


def test_another_seed_or_rule_moves_nothing_between_training_and_held_out(
    held: Corpus, copied: Path, workers: Workers
) -> None:
    seeded = make(copied, workers, seed=8)
    assert [seeded.corpus(s) for s in ("validation", "test")] == [held.corpus(s) for s in ("validation", "test")]
    for label in ("mixing/validation", "packing/validation", "packing/test"):
        assert seeded.built[label].reused, "not a byte depends on the seed"
    assert not seeded.built["packing/all"].reused

    data = json.loads(json.dumps(small_recipe(copied)))
    data["sources"][0]["rules"] = [
        r | {"value": 250} if r["name"] == "too_few_words" else r for r in data["sources"][0]["rules"]
    ]
    ruled = make(copied, workers, sources=data["sources"])
    assert 0 < len(ruled.corpus()) < len(held.corpus())
    assert not ruled.corpus() & held.held_out() and not ruled.held_out() & held.corpus()


def test_one_more_file_moves_nothing(held: Corpus, copied: Path, workers: Workers) -> None:
    more = [record(f"new-{i}", text + "One more.") for i, text in enumerate(passages(2500)[:11])]
    write_jsonl(copied / "web" / "more.jsonl", more)
    recipe = load(copied, small_recipe(copied, held_out=HELD_OUT))
    said = {
        p.label: p
        for p in plan(
            ArtifactStore(str(copied / "store")), chain_of(ArtifactStore(str(copied / "store")), recipe).steps()
        )
    }
    grown = make(copied, workers)
    assert {label: p.action == "reuse" for label, p in said.items()} == {
        label: b.reused for label, b in grown.built.items()
    }
    assert not grown.corpus() & held.held_out() and not grown.held_out() & held.corpus()
    assert grown.built["mixing/all"].shards_reused > 0


def test_a_longer_copy_that_wins_is_held_out_too(held: Corpus, copied: Path, workers: Workers) -> None:
    """What was held out yesterday stays out of training when another document brings the same text today."""
    texts = {
        (source, r["id"]): r["text"] for split in ("validation", "test") for source, r in held.rows(f"mixing/{split}")
    }
    yesterday = sorted(place for place in texts if place[0] == "web" and place[1].startswith("d"))[:4]
    assert yesterday
    winners = [record(f"winner-{i}", texts[place] + " And a few more words.") for i, place in enumerate(yesterday)]
    assert all(own_split("web", r["id"]) == "train" for r in winners), "by themselves they would be trained on"
    write_jsonl(copied / "web" / "winners.jsonl", winners)
    today = make(copied, workers)
    verdicts = aligned(today, "web", "near-duplicates/all")
    splits = aligned(today, "web", "splits/all")
    for winner, (source, identifier) in zip(winners, yesterday, strict=True):
        assert verdicts[identifier]["duplicate_of"] == f"web/{winner['id']}"
        assert splits[winner["id"]] == {"split": own_split(source, identifier), "because_of": f"web/{identifier}"}
        assert ("web", winner["id"]) not in today.corpus() | today.tokens()
        assert ("web", winner["id"]) in today.held_out()
    copies = today.built["splits/all"].manifest.counts["splits"]
    assert copies["validation"]["because_of_copies"] + copies["test"]["because_of_copies"] >= len(winners)


def test_training_data_with_a_held_out_document_is_not_published(held: Corpus, copied: Path, workers: Workers) -> None:
    """The last look does not trust the stage that made the splits: here mixing is told to take every survivor."""
    store = ArtifactStore(str(copied / "store"))
    chain = chain_of(store, load(copied, small_recipe(copied, held_out=HELD_OUT)))
    documents = {s: chain.ref("documents", s) for s in ("web", "wiki")}
    tags = {s: {t: chain.ref(t, s) for t in ("quality", "content", "pii")} for s in documents}
    leaky = mixing_step(chain.recipe, documents, tags, chain.ref("near-duplicates"), chain.ref("mixture"))
    step = dataclasses.replace(leaky, name="leaky", check=chain.step("mixing").check)
    with pytest.raises(
        IntegrityError, match="the training corpus would hold .* held-out documents in shard .*nothing was published"
    ):
        build(store, step, workers)
    assert not list(store.finished("corpus", "leaky"))

    build(store, dataclasses.replace(step, check=None), workers)  # as if the corpus had got through
    packing = chain.step("packing")
    assert packing.check is not None
    guard = Guard(held_out=chain.recipe.held_out, documents=documents, duplicates=chain.ref("near-duplicates"))
    shards = held.built["packing/all"].manifest.shards
    guard.tokens(store, shards, held.built["mixing/all"].ref)
    packing.check(store, shards)
    with pytest.raises(IntegrityError, match="the training tokens would hold .* held-out documents"):
        guard.tokens(store, shards, step.ref)
    with pytest.raises(IntegrityError, match="the tokens point at shards"):
        guard.tokens(store, shards, chain.ref("mixture"))


def test_a_split_without_documents_goes_through(copied: Path, workers: Workers) -> None:
    """A trial has few documents; training is there, the split is empty and says so."""
    tiny = make(copied, workers, held_out=[{"name": "rare", "fraction": 1e-9}])
    assert tiny.built["packing/rare"].manifest.counts.get("tokens", 0) == 0
    assert tiny.corpus("rare") == set() and tiny.built["packing/rare"].manifest.objects == []
    assert tiny.built["packing/all"].manifest.counts["tokens"] > 0


def test_token_files_are_those_of_the_usual_layout(held: Corpus) -> None:
    kinds = {o.key[5:] for o in held.built["packing/validation"].manifest.objects}
    assert kinds == {NPY, INDEX} and IDS not in kinds
    one = held.built["packing/validation"].manifest.object("00000" + NPY)
    ids = np.frombuffer(held.store.storage.read(one.path), one.meta["dtype"])
    assert len(ids) == held.built["packing/validation"].manifest.counts["tokens"]
