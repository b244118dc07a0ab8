"""`olmo waterfall A B`: two builds of the small corpus, with other rules for one source."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from flows.command.main import main
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.report.two_corpora import TwoCorpora, compare
from olmo_core.workers import Workers
from tests.small_corpus import WEB_RULES, Run, build_all, load, small_recipe


@pytest.fixture(scope="module")
def later(small: Run, workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The small corpus once more in a copy of its store: no rule for personal data, more words wanted, another rule at the end."""
    folder = tmp_path_factory.mktemp("later")
    shutil.copytree(small.folder / "store", folder / "store")
    wordy = {"name": "few_words_again", "column": "gopher_word_count", "drop_if": "<", "value": 240}
    rules = [WEB_RULES[0], {**WEB_RULES[1], "value": 200}, WEB_RULES[2], wordy]
    data = small_recipe(small.folder)
    data["sources"][0]["rules"] = rules
    recipe, store = load(folder, data), ArtifactStore(str(folder / "store"))
    built = build_all(store, recipe, workers)
    for one in (small.built["report/all"], built["report/all"]):  # as the flow does: the newest
        store.tag(one.ref, "latest")
    return Run(folder=folder, store=store, recipe=recipe, planned={}, built=built)


def manifests(run: Run) -> dict[str, Manifest]:
    inputs = run.manifest("report/all").inputs
    return {label: run.manifest(label) for label in run.built if label in inputs}


@pytest.fixture(scope="module")
def compared(small: Run, later: Run) -> TwoCorpora:
    return compare(manifests(small), manifests(later))


def test_each_stage_is_the_same_or_has_a_reason(small: Run, later: Run, compared: TwoCorpora) -> None:
    assert compared.reasons == {
        "selection/web": (
            'rules.few_words_again: added {"column": "gopher_word_count", "drop_if": "<", "value": 240',
            "rules.personal_data: removed",
            "rules.too_few_words.value: 20.0 -> 200.0",
        )
    }
    reused = {label for label, one in later.built.items() if one.ref == small.built[label].ref}
    assert set(compared.same) == reused & manifests(later).keys() and "selection/wiki" in compared.same
    assert {"near-duplicates/all", "mixing/all", "packing/all"} <= set(compared.follow)
    assert not compared.only_a and not compared.only_b
    labels = [*compared.same, *compared.reasons, *compared.follow]
    assert sorted(labels) == sorted(manifests(small)), "each stage once"


def test_the_numbers_are_those_of_the_ledgers(small: Run, later: Run, compared: TwoCorpora) -> None:
    for label in ("selection/web", "near-duplicates/all"):
        stage, source = label.split("/")
        lines = {one.what: one for one in compared.lines if (one.stage, one.source) == (stage, source)}
        before, after = (run.manifest(label).ledger for run in (small, later))
        for reason in before.dropped.keys() | after.dropped.keys():
            for number in ("documents", "bytes"):
                less = [
                    int(getattr(one.dropped[reason], number)) if reason in one.dropped else 0 for one in (before, after)
                ]
                if any(less):
                    assert lines[reason].change(number) == less[0] - less[1], (label, reason)
        assert lines["kept"].change("documents") == after.kept.documents - before.kept.documents
    tokens = [int(run.manifest("packing/all").counts["tokens"]) for run in (small, later)]
    (packed,) = [one for one in compared.lines if one.stage == "packing"]
    assert packed.change("tokens") == tokens[1] - tokens[0] != 0


def test_lines_of_one_corpus_alone_stand_in_their_places(compared: TwoCorpora) -> None:
    web = [one for one in compared.lines if (one.stage, one.source) == ("selection", "web")]
    order = [one.what for one in web]
    assert order[0] == "in" and order[-1] == "kept" and len(order) == len(set(order))
    (personal,) = [one for one in web if one.what == "personal_data"]
    (again,) = [one for one in web if one.what == "few_words_again"]
    assert personal.b is None and personal.change("documents") > 0
    assert again.a is None and again.change("documents") < 0
    assert order.index("too_few_words") < order.index("few_words_again")


def test_the_command_shows_both(small: Run, later: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def olmo(*words: str) -> tuple[int, str, str]:
        code = main(["waterfall", *words, "--store", later.store.uri])
        return code, *capsys.readouterr()

    first = str(small.built["report/all"].ref).removeprefix("report/")
    code, shown, _ = olmo(first, "small")
    assert code == 0
    lines = shown.splitlines()
    assert lines[0].startswith(f"a  report/{first}, built 2") and lines[1].startswith("b  report/small/")
    assert "selection/web: rules.too_few_words.value: 20.0 -> 200.0" in lines
    (tokens,) = [line.split() for line in lines if line.split()[:1] == ["tokens"]]
    counts = [int(run.manifest("packing/all").counts["tokens"]) for run in (small, later)]
    assert [int(one.replace(",", "")) for one in tokens[1:]] == [*counts, counts[1] - counts[0]]
    assert any(line.startswith("the same in both: inventory/web, inventory/wiki, documents/web") for line in lines)

    code, shown, _ = olmo(first, "small", "--json")
    told: dict[str, Any] = json.loads(shown)
    assert (
        told["reports"]["a"] == f"report/{first}"
        and told["reasons"]["selection/web"][1] == "rules.personal_data: removed"
    )
    (packed,) = [one for one in told["lines"] if one["stage"] == "packing"]
    assert packed["change"]["tokens"] == counts[1] - counts[0]
    assert all("tokens" not in one["change"] for one in told["lines"] if one["stage"] != "packing")

    code, shown, _ = olmo("small", "small")
    assert code == 0 and shown.splitlines()[-1] == "the same artifacts throughout"
    code, _, said = olmo("small", "small", "--examples", "1")
    assert code == 2 and "--examples is of one corpus" in said
    code, _, said = olmo("small", "smal")
    assert code == 1 and "did you mean report/small?" in said


def test_another_order_of_rules_is_a_reason(small: Run) -> None:
    """The first rule that drops a document is its reason."""
    one = manifests(small)
    selection = one["selection/web"]
    turned = {**selection.recipe, "rules": list(reversed(selection.recipe["rules"]))}
    other = Manifest(**{**selection.__dict__, "recipe": turned, "ref": one["selection/wiki"].ref})
    found = compare(one, {**one, "selection/web": other})
    assert any(said.startswith("rules") for said in found.reasons["selection/web"])
