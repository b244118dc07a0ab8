"""Decontamination in the chain: planted items go, the ledger and the report say so, lineage names the files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.build import Built
from olmo_core.artifacts.lineage import backward
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation import contamination_verdicts
from olmo_core.curation.chain import stages_of
from olmo_core.curation.contamination import Matches
from olmo_core.curation.steps.evaluation_index import _write_index
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError, IntegrityError, RecipeError
from olmo_core.report.explain import explain
from olmo_core.report.waterfall import waterfall
from olmo_core.workers import Workers
from tests.small_corpus import Run, build_all, chain_of, load, planned, record, small_recipe, write_jsonl

QUESTION = (
    "Which of these rivers, all of them longer than a thousand kilometres, flows into the Black Sea after passing "
    "through four capitals on its way from the mountains in which it rises?"
)
NOT_ASKED = (
    "How many moons of the outer planets were known before the first telescope was pointed at them by a person who "
    "then wrote down what he had seen night after night?"
)
PROSE = (
    "The town lies on a hill above the river, and the road that leads up to it is steep and full of stones. People who "
    "live there say that the view is worth the walk, and most of those who come up in summer agree with them."
)


def decontamination(folder: Path, **changes: Any) -> dict[str, Any]:
    """The field of the recipe."""
    return {
        "sets": [
            {"name": "quiz", "kind": "jsonl", "paths": [f"{folder}/eval/*.jsonl"], "fields": ["question", "choices"]},
            {"name": "prose", "kind": "text", "paths": [f"{folder}/eval/prose.txt"], "rules": ["paragraphs"]},
        ],
        **changes,
    }


def write_evaluation(folder: Path, text: str) -> None:
    """Two sets: questions, and a paragraph of prose that some document holds already (`text`)."""
    write_jsonl(
        folder / "eval" / "quiz.jsonl",
        [
            {"id": "rivers", "question": QUESTION, "choices": ["the Danube", "the Dniester"]},
            {"id": "moons", "question": NOT_ASKED, "choices": ["none", "four"]},
            {"id": "tiny", "question": "Really?", "choices": ["yes", "no"]},
        ],
    )
    (folder / "eval" / "prose.txt").write_text(f"A short line.\n\n{text}\n\nAnother short line.\n", encoding="utf-8")


PLANTED = {
    "exact": f"{PROSE}\n{QUESTION}\n{PROSE}",
    "lower-case": f"{PROSE} {QUESTION.lower()} {PROSE}",
    "clean": f"{PROSE}\nWhich river flows into the Black Sea?\n{PROSE}",
    "dropped-before": QUESTION,
}


@pytest.fixture(scope="module")
def folder(small: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus and its store with evaluation files and one more file of documents."""
    folder = tmp_path_factory.mktemp("decontamination") / "small"
    shutil.copytree(small.folder, folder)
    write_jsonl(folder / "web" / "more.jsonl", [record(name, text) for name, text in PLANTED.items()])
    paragraph = next(p for row in small.rows("mixing/all") for p in row["text"].split("\n") if len(p) > 60)
    write_evaluation(folder, paragraph)
    return folder


@pytest.fixture(scope="module")
def clean(folder: Path, workers: Workers) -> Run:
    """The corpus with decontamination, built."""
    recipe = load(folder, small_recipe(folder, decontamination=decontamination(folder)))
    store = ArtifactStore(str(folder / "store"))
    said = planned(store, recipe)
    return Run(folder=folder, store=store, recipe=recipe, planned=said, built=build_all(store, recipe, workers))


def test_stages_and_plan(clean: Run, small: Run) -> None:
    labels = [f"{stage}/{source}" for stage, source in stages_of(clean.recipe)]
    assert list(clean.built) == labels == list(clean.planned)
    assert labels[:3] == ["inventory/quiz", "inventory/prose", "evaluation-index/all"]
    assert set(labels) - set(small.built) == {
        *labels[:3],
        "decontamination/web",
        "decontamination/wiki",
        "contaminated-items/all",
    }
    for label, said in clean.planned.items():
        assert (said.action == "reuse") is clean.built[label].reused and said.ref == clean.built[label].ref, label
    assert clean.built["signatures/wiki"].reused and not clean.built["near-duplicates/all"].reused


def test_nothing_changes_for_recipes_without(small: Run) -> None:
    saved = json.loads(small.store.storage.read(small.manifest("report/all").object("recipe.json").path))
    assert "decontamination" not in saved and not any("contamin" in label for label in small.built)


def test_planted_documents_go_and_others_stay(clean: Run) -> None:
    rows = {name: clean.about("decontamination/web", "web", name) for name in PLANTED}
    assert rows["exact"]["keep"] is False and rows["exact"]["rule"] == "paragraph"
    assert rows["lower-case"]["keep"] is False and rows["lower-case"]["rule"] == "ngrams"
    assert rows["exact"]["reason"] == "contaminated: quiz" and rows["exact"]["item"] == "quiz.jsonl:rivers"
    assert rows["clean"]["keep"] is True and rows["clean"]["matches"] == []
    assert clean.about("selection/web", "web", "dropped-before")["keep"] is True
    assert rows["dropped-before"]["rule"] in ("document", "paragraph")
    gone = [row["id"] for row in clean.rows("mixing/all") if row["id"] in PLANTED]
    assert gone == ["clean"]
    for source in ("web", "wiki"):
        for verdict, chosen in zip(
            clean.rows(f"decontamination/{source}"), clean.rows(f"selection/{source}"), strict=True
        ):
            assert (verdict["keep"] is None) == (not chosen["keep"])


def test_no_document_of_the_corpus_holds_a_paragraph_of_the_sets(clean: Run) -> None:
    text = (clean.folder / "eval" / "prose.txt").read_text(encoding="utf-8").split("\n\n")[1].strip()
    assert any(text in row["text"] for row in clean.rows("documents/wiki") + clean.rows("documents/web"))
    for row in clean.rows("mixing/all"):
        assert not {QUESTION, text} & {p.strip() for p in row["text"].split("\n")}


def test_ledger_waterfall_and_joints(clean: Run) -> None:
    manifests = {label: built.manifest for label, built in clean.built.items()}
    for source in ("web", "wiki"):
        ledger = manifests[f"decontamination/{source}"].ledger
        ledger.balance(source)
        rows = clean.rows(f"decontamination/{source}")
        assert ledger.read == manifests[f"selection/{source}"].ledger.kept
        for name in ("quiz", "prose"):
            dropped = sum(r["reason"] == f"contaminated: {name}" for r in rows)
            assert (ledger.dropped[f"contaminated: {name}"].documents if dropped else 0) == dropped
    assert manifests["decontamination/web"].ledger.dropped["contaminated: quiz"].documents == 3
    lines = [line for line in waterfall(manifests) if line.stage == "decontamination"]
    assert next(line.what for line in lines if line.source == "web") == "in"
    assert {line.what for line in lines} >= {"in", "kept", "contaminated: quiz", "contaminated: prose"}


def test_items_are_listed_with_what_held_them(clean: Run) -> None:
    items = {row["item"]: row for row in clean.rows("contaminated-items/all")}
    rivers, moons, tiny = (items[f"quiz.jsonl:{name}"] for name in ("rivers", "moons", "tiny"))
    assert (rivers["contaminated"], rivers["documents"], rivers["documents_kept"]) == (True, 3, 0)
    assert rivers["by_paragraph"] and rivers["by_ngrams"] and rivers["own_id"] == "rivers"
    assert rivers["document"] in ("web/exact", "web/lower-case", "web/dropped-before")
    assert (moons["contaminated"], moons["searchable"], moons["document"]) == (False, True, None)
    assert (tiny["contaminated"], tiny["searchable"]) == (False, False)
    counts = clean.manifest("contaminated-items/all").counts["sets"]
    assert (counts["quiz"]["items"], counts["quiz"]["searchable"], counts["quiz"]["contaminated"]) == (3, 2, 1)
    assert counts["quiz"]["first"] == ["quiz.jsonl:rivers"] and counts["prose"]["contaminated"] == 1


def test_report_explain_and_lineage(clean: Run) -> None:
    report = json.loads(clean.store.storage.read(clean.manifest("report/all").object("report.json").path))
    found = report["decontamination"]
    assert found["removed"]["documents"] >= 4 and found["above_target"] and found["target"] == 0.001
    assert found["removal_rate"]["documents"] == found["removed"]["documents"] / found["read"]["documents"]
    assert found["sets"]["quiz"]["removed"]["documents"] == 3
    assert found["control"]["found"] == found["control"]["planted"] > 4
    page = clean.store.storage.read(clean.manifest("report/all").object("report.md").path).decode()
    assert "## Decontamination" in page and "Warning: more than 0.1%" in page and "quiz.jsonl:rivers" in page
    html = clean.store.storage.read(clean.manifest("report/all").object("report.html").path).decode()
    assert '<section id="decontamination">' in html and "quiz.jsonl:rivers" in html
    assert '<mark class="shared"' in html and "Paloma&#x27;s target" in html
    assert any(e["text"].startswith("which of these rivers") for e in report["examples"]["contaminated"])
    saved = clean.store.storage.read(clean.manifest("report/all").object("recipe.json").path).decode()
    assert str(clean.folder) not in saved
    clean.store.tag(clean.built["report/all"].ref, "latest")
    (document,) = explain(clean.store, "small", "web/lower-case")
    assert document["contaminated"]["text"].startswith("which of these rivers, all of them")
    assert document["tokens"] == [] and document["contaminated"]["item"] == "quiz.jsonl:rivers"
    (document,) = explain(clean.store, "small", "web/clean")
    assert document["contaminated"] is None and document["tokens"]
    names = {str(one.manifest.ref) for one in backward(clean.store, clean.built["packing/all"].ref)}
    assert any(name.startswith("inventory/quiz/") for name in names), "the evaluation files are in the tokens' lineage"
    (files,) = (clean.rows(f"inventory/{name}") for name in ("quiz",))
    assert [f["name"] for f in files] == ["quiz.jsonl"] and len(files[0]["sha256"]) == 64


def again(clean: Run, workers: Workers, tmp_path: Path, **changes: Any) -> tuple[ArtifactStore, dict[str, Built]]:
    shutil.copytree(clean.folder, tmp_path / "copy")
    store = ArtifactStore(str(tmp_path / "copy" / "store"))
    field = decontamination(tmp_path / "copy", **changes)
    recipe = load(tmp_path / "copy", small_recipe(tmp_path / "copy", decontamination=field))
    return store, build_all(store, recipe, workers, until="mixture")


def test_an_exempt_source_keeps_what_it_holds_and_says_so(clean: Run, workers: Workers, tmp_path: Path) -> None:
    store, done = again(clean, workers, tmp_path, exempt=["web"])
    assert {label for label, b in done.items() if not b.reused} == {
        "decontamination/web",
        "contaminated-items/all",
        "near-duplicates/all",
    }
    manifest = done["decontamination/web"].manifest
    assert manifest.ledger.dropped == {} and manifest.counts["kept_as_exempt"]["quiz"] == 3
    rows = read_shard(store.storage, done["contaminated-items/all"].manifest.object("items").path).to_pylist()
    (rivers,) = (row for row in rows if row["item"] == "quiz.jsonl:rivers")
    assert (rivers["documents"], rivers["documents_kept"]) == (3, 3)


def test_overlap_rebuilds_verdicts_only(clean: Run, workers: Workers, tmp_path: Path) -> None:
    _, done = again(clean, workers, tmp_path, ngrams={"min_overlap": 1.0})
    assert done["evaluation-index/all"].reused and not done["decontamination/web"].reused
    before = clean.manifest("decontamination/web").ledger.dropped["contaminated: quiz"].documents
    after = done["decontamination/web"].manifest.ledger.dropped["contaminated: quiz"].documents
    assert after == before - 1, "the choices are part of the item, and stand in no document"


def test_a_changed_evaluation_file_is_a_new_index(clean: Run, workers: Workers, tmp_path: Path) -> None:
    shutil.copytree(clean.folder, tmp_path / "copy")
    path = tmp_path / "copy" / "eval" / "quiz.jsonl"
    path.write_text(path.read_text().replace("Black Sea", "Caspian Sea"))
    recipe = load(
        tmp_path / "copy", small_recipe(tmp_path / "copy", decontamination=decontamination(tmp_path / "copy"))
    )
    said = planned(ArtifactStore(str(tmp_path / "copy" / "store")), recipe)
    built = {label for label, p in said.items() if p.action == "build"}
    assert {"inventory/quiz", "evaluation-index/all", "decontamination/web", "report/all"} <= built
    assert not built & {"inventory/prose", "selection/web", "signatures/web"}


def test_the_positive_control_stops_a_run_that_would_find_nothing(
    clean: Run, workers: Workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the toolkit does with `>= 1.0`, and with `min_words`: everything is kept, and nobody hears of it."""
    step = chain_of(clean.store, clean.recipe).step("evaluation-index")

    def run() -> None:
        from olmo_core.artifacts.output import Output
        from olmo_core.artifacts.step import Job

        (shard,) = step.shards({})
        job = Job(
            store=str(tmp_path),
            folder="x",
            stage=step.label,
            fingerprint="",
            recipe=(step.recipe, step.settings),
            shard=shard,
            work=_write_index,
        )
        _write_index(job, Output(ArtifactStore(str(tmp_path)).storage, "x"))

    run()
    scan = contamination_verdicts.scan

    def blind(*arguments: Any) -> Matches:
        found = scan(*arguments)
        return Matches(*(column[:0] for column in found))

    monkeypatch.setattr(contamination_verdicts, "scan", blind)
    with pytest.raises(IntegrityError, match="positive control failed: .*quiz.jsonl:rivers"):
        run()

    def half_blind(*arguments: Any) -> Matches:
        found = scan(*arguments)
        return Matches(*(column[found.rule != 2] for column in found))

    monkeypatch.setattr(contamination_verdicts, "scan", half_blind)
    with pytest.raises(IntegrityError, match="not found by the rule ngrams"):
        run()


def test_a_set_that_could_never_be_found_stops_the_run(clean: Run, workers: Workers, tmp_path: Path) -> None:
    shutil.copytree(clean.folder, tmp_path / "copy")
    folder = tmp_path / "copy"
    write_jsonl(folder / "eval" / "quiz.jsonl", [{"question": "Yes?", "choices": []}])
    recipe = load(folder, small_recipe(folder, decontamination=decontamination(folder)))
    with pytest.raises(InputError, match="quiz: none of its 1 items has a paragraph or an n-gram"):
        build_all(ArtifactStore(str(folder / "store")), recipe, workers)
    assert not list(ArtifactStore(str(folder / "store")).storage.walk("attributes/x"))


def test_names_that_do_not_fit(folder: Path) -> None:
    for changes, message in (
        ({"exempt": ["code"]}, "decontamination.exempt: there is no source 'code'; there are: web, wiki"),
        ({"sets": [{"name": "web", "kind": "text", "paths": ["x"]}]}, "'web' is named like a source"),
    ):
        with pytest.raises(RecipeError, match=message):
            load(folder, small_recipe(folder, decontamination=decontamination(folder, **changes)))
