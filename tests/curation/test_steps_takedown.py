"""Takedown end to end: listed documents and their copies are gone, what is planned is done, and little is built again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.build import Built
from olmo_core.artifacts.lineage import backward
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError, RecipeError
from olmo_core.report.explain import explain
from olmo_core.report.waterfall import waterfall
from olmo_core.workers import Workers
from tests.small_corpus import WEB_RULES, Run, build_all, load, planned, record, small_recipe, write_jsonl

LISTED = """# by mail
web/d3-4
https://EXAMPLE.org/w1-5/#top
w0-0
nowhere/to-be-found
https://example.org/not-here
"""
NAMED = {("web", "d3-4"): "id", ("wiki", "w1-5"): "url", ("wiki", "w0-0"): "id"}


def with_list(folder: Path, text: str | None, **changes: Any) -> dict[str, Any]:
    """The small recipe with a takedown list of that content."""
    if text is None:
        return small_recipe(folder)
    (folder / "list.txt").write_text(text)
    return small_recipe(folder, takedown={"paths": [str(folder / "list.txt")], **changes})


def make(folder: Path, text: str | None, workers: Workers, **changes: Any) -> tuple[dict[str, Any], dict[str, Built]]:
    store = ArtifactStore(str(folder / "store"))
    recipe = load(folder, with_list(folder, text, **changes))
    said = planned(store, recipe)
    done = build_all(store, recipe, workers)
    assert {label: p.action == "reuse" for label, p in said.items()} == {label: b.reused for label, b in done.items()}
    for label, p in said.items():
        assert p.shards_reused <= done[label].shards_reused, label
    return said, done


def rows(folder: Path, built: Built) -> list[dict[str, Any]]:
    storage = ArtifactStore(str(folder / "store")).storage
    objects = [o for o in built.manifest.objects if o.path.endswith(".parquet") and "quarantine" not in o.key]
    return [
        {**r, "source": o.key.split("/")[0] if "/" in o.key else built.ref.name.split("-")[0]}
        for o in objects
        for r in read_shard(storage, o.path).to_pylist()
    ]


@pytest.fixture(scope="module")
def taken(small: Run, tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> tuple[Path, Any, dict[str, Built]]:
    """The small corpus without the documents of the list. Tests may not change it."""
    folder = tmp_path_factory.mktemp("taken") / "corpus"
    shutil.copytree(small.folder, folder)
    return (folder, *make(folder, LISTED, workers))


@pytest.fixture
def copied(taken: tuple[Path, Any, dict[str, Built]], tmp_path: Path) -> Path:
    shutil.copytree(taken[0], tmp_path / "copy")
    return tmp_path / "copy"


def verdicts(folder: Path, done: dict[str, Built], stage: str, source: str) -> dict[str, dict[str, Any]]:
    ids = [r["id"] for r in rows(folder, done[f"documents/{source}"])]
    return dict(zip(ids, rows(folder, done[f"{stage}/{source}"]), strict=True))


def test_listed_documents_and_exact_copies_are_gone(taken: tuple[Path, Any, dict[str, Built]], small: Run) -> None:
    """`web/copy-of-wiki` is wiki's w0-0 byte for byte; without the list it was a duplicate of it."""
    folder, _, done = taken
    for (source, identifier), by in NAMED.items():
        assert verdicts(folder, done, "takedown-copies", source)[identifier]["by"] == by
        assert verdicts(folder, done, "selection", source)[identifier]["reason"] == "takedown"
    copy = verdicts(folder, done, "selection", "web")["copy-of-wiki"]
    assert (copy["keep"], copy["reason"]) == (False, "takedown_copy")
    gone = {*NAMED, ("web", "copy-of-wiki")}
    left = {(r["source"], r["id"]) for r in rows(folder, done["mixing/all"])}
    before = {(r["source"], r["id"]) for r in rows(small.folder, small.built["mixing/all"])}
    assert left & gone == set() and before - gone == left
    everything = b"".join(
        ArtifactStore(str(folder / "store")).storage.read(o.path)
        for label in ("packing/all",)
        for o in done[label].manifest.objects
        if o.key.endswith(".npy")
    )
    assert len(everything) == 2 * done["packing/all"].manifest.counts["tokens"]
    assert done["packing/all"].manifest.counts["tokens"] < small.manifest("packing/all").counts["tokens"]


def test_near_copies_are_reported_and_left(
    taken: tuple[Path, Any, dict[str, Built]], copied: Path, workers: Workers
) -> None:
    """`web/nearly-wiki` is another wiki passage with one word changed."""
    _, done = make(copied, "wiki/w0-1\n", workers)
    near = verdicts(copied, done, "takedown-copies", "web")["nearly-wiki"]
    assert (near["by"], near["of"], near["reason"]) == ("near_copy", "wiki/w0-1", None) and 0.8 <= near["jaccard"] < 1
    assert verdicts(copied, done, "selection", "web")["nearly-wiki"]["keep"]
    report = json.loads(
        ArtifactStore(str(copied / "store")).storage.read(done["report/all"].manifest.object("report.json").path)
    )
    assert report["takedown"]["copies_left_in"] == [
        {"id": "web/nearly-wiki", "of": "wiki/w0-1", "kind": "near_copy", "jaccard": near["jaccard"]}
    ]


def test_report_waterfall_and_explain_say_it(taken: tuple[Path, Any, dict[str, Built]]) -> None:
    folder, _, done = taken
    store = ArtifactStore(str(folder / "store"))
    lines = waterfall({label: built.manifest for label, built in done.items()})
    web = [line.what for line in lines if (line.stage, line.source) == ("selection", "web")]
    assert web == ["in", "takedown", "takedown_copy", "language", "too_few_words", "personal_data", "kept"]
    report = json.loads(store.storage.read(done["report/all"].manifest.object("report.json").path))["takedown"]
    assert (report["entries"], report["entries_without_document"]) == (5, 2)
    assert report["without_document"] == ["https://example.org/not-here", "nowhere/to-be-found"]
    assert report["sources"] == {
        "web": {"id": 1, "url": 0, "copy": 1, "near_copy": 0},
        "wiki": {"id": 1, "url": 1, "copy": 0, "near_copy": 0},
    }
    page = store.storage.read(done["report/all"].manifest.object("report.md").path).decode()
    assert "## Takedown" in page and "nowhere/to-be-found" in page
    html = store.storage.read(done["report/all"].manifest.object("report.html").path).decode()
    assert '<section id="takedown">' in html and "nowhere/to-be-found" in html
    saved = json.loads(store.storage.read(done["report/all"].manifest.object("recipe.json").path))
    assert saved["takedown"] == {"paths": [], "copies": "drop"} and str(folder) not in json.dumps(saved)
    store.tag(done["report/all"].ref, "latest")
    (found,) = explain(store, "small", "wiki/w1-5")
    assert found["dropped_by"] == "takedown" and found["takedown"]["entries"] == ["https://EXAMPLE.org/w1-5/#top"]
    (found,) = explain(store, "small", "copy-of-wiki")
    assert found["takedown"]["of"] == "wiki/w0-0" and found["tokens"] == []
    (found,) = explain(store, "small", "nul")
    assert found["takedown"] is None


def test_the_list_is_an_input_in_the_lineage(taken: tuple[Path, Any, dict[str, Built]]) -> None:
    folder, _, done = taken
    inventory = done["inventory/takedown"].ref
    assert str(inventory).startswith("inventory/takedown/")
    made_from = [a.manifest.ref for a in backward(ArtifactStore(str(folder / "store")), done["packing/all"].ref)]
    assert inventory in made_from


def test_a_first_list_rebuilds_no_tags_and_few_selections(taken: tuple[Path, Any, dict[str, Built]]) -> None:
    """Shards of which nothing goes are those of the recipe without a list."""
    _, said, done = taken
    stages = {label.split("/")[0] for label, b in done.items() if not b.reused}
    assert stages == {
        "inventory", "takedown-list", "takedown", "takedown-copies", "selection",
        "near-duplicates", "mixture", "mixing", "tokenization", "packing", "report",
    }  # fmt: skip
    assert done["inventory/web"].reused and done["inventory/wiki"].reused
    assert said["selection/web"].why[0].startswith("input takedown: none -> ")
    shards = done["selection/web"].manifest.shards
    assert done["selection/web"].shards_reused == len(shards) - 2, "those of d3-4 and of the copy"
    assert done["selection/wiki"].shards_reused == len(done["selection/wiki"].manifest.shards) - 2


def test_another_entry_rebuilds_one_shard_of_selection(copied: Path, workers: Workers) -> None:
    said, done = make(copied, LISTED + "web/d5-1\n", workers)
    assert done["signatures/web"].reused and not done["takedown/web"].reused
    assert done["selection/web"].shards_reused == len(done["selection/web"].manifest.shards) - 1
    assert done["selection/wiki"].shards_reused == len(done["selection/wiki"].manifest.shards)
    assert said["takedown-list/all"].why[0].startswith("input inventory: ")


def test_comments_and_order_rebuild_no_shard(copied: Path, workers: Workers) -> None:
    lines = LISTED.splitlines()
    _, done = make(copied, "\n".join(["# another comment", *reversed(lines)]), workers)
    for label in ("takedown/web", "takedown-copies/wiki", "selection/web", "mixing/all"):
        assert done[label].shards_reused == len(done[label].manifest.shards), label


def test_without_the_list_again_all_is_as_before(copied: Path, small: Run, workers: Workers) -> None:
    _, done = make(copied, None, workers)
    assert {label: b.ref for label, b in done.items()} == {label: b.ref for label, b in small.built.items()}
    assert all(b.reused for b in done.values())


def test_copies_may_be_left_in_and_are_reported(copied: Path, workers: Workers) -> None:
    _, done = make(copied, LISTED, workers, copies="report")
    assert verdicts(copied, done, "selection", "web")["copy-of-wiki"]["keep"]
    assert ("web", "copy-of-wiki") in {(r["source"], r["id"]) for r in rows(copied, done["mixing/all"])}
    page = ArtifactStore(str(copied / "store")).storage.read(done["report/all"].manifest.object("report.md").path)
    assert b"web/copy-of-wiki (1.00 of wiki/w0-0)" in page


def test_what_is_taken_down_below_the_floor_takes_its_copies_along(copied: Path, workers: Workers) -> None:
    """The web source tags nothing of a German text; the copy is in a source where German stays."""
    german = next(r for r in rows(copied, _inputs(copied, workers)["documents/web"]) if r["id"] == "german")
    write_jsonl(copied / "wiki" / "more.jsonl", [record("german-copy", german["text"])])
    _, done = make(copied, "web/german\n", workers)
    assert verdicts(copied, done, "selection", "wiki")["german-copy"]["reason"] == "takedown_copy"


def _inputs(folder: Path, workers: Workers) -> dict[str, Built]:
    return make(folder, LISTED, workers)[1]


def test_wrong_recipes_and_lists_are_refused(copied: Path, workers: Workers) -> None:
    data = with_list(copied, LISTED)
    missing = {**data, "takedown": {"paths": [str(copied / "nothing.txt")]}}
    with pytest.raises(InputError, match="nothing.txt"):
        planned(ArtifactStore(str(copied / "store")), load(copied, missing))
    with pytest.raises(RecipeError, match="'dorp' is not one of 'drop', 'report'"):
        load(copied, {**data, "takedown": {"paths": ["x"], "copies": "dorp"}})
    with pytest.raises(RecipeError, match="paths is empty"):
        planned(ArtifactStore(str(copied / "store")), load(copied, {**data, "takedown": {"paths": []}}))
    named = json.loads(json.dumps(data))
    named["sources"][0]["read"]["name"] = "takedown"
    with pytest.raises(RecipeError, match="source 'takedown': .* choose another"):
        load(copied, named)
    ruled = json.loads(json.dumps(data))
    ruled["sources"][0]["rules"] = [{**WEB_RULES[0], "name": "takedown"}]
    with pytest.raises(RecipeError, match="rename the rule"):
        load(copied, ruled)
    (copied / "list.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(InputError, match="line 1: id is 1"):
        make_with(copied, workers)
    assert not list(ArtifactStore(str(copied / "store")).finished("corpus", "other"))


def make_with(folder: Path, workers: Workers) -> None:
    recipe = load(folder, small_recipe(folder, name="other", takedown={"paths": [str(folder / "list.jsonl")]}))
    build_all(ArtifactStore(str(folder / "store")), recipe, workers)
