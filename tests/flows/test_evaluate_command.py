"""`olmo evaluate`, `olmo report evaluation` and `olmo export benchmarks`: tables, JSON, exit codes, what is refused."""

from __future__ import annotations

import argparse
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from flows.command import evaluation_choices
from flows.command.automations import automation
from flows.command.evaluate import _Progress
from flows.command.main import main
from flows.command.usage import UsageError
from olmo_core.evaluation.recipe import RECIPES, EvaluationRecipe, load_evaluation_recipe
from tests.evaluation.places import Place, place


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place(tmp_path_factory.mktemp("place"))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores' cache lies beside the asset cache: not in the user's."""
    monkeypatch.setenv("OLMO_ASSETS", str(tmp_path / "assets"))


def words(here: Place, *more: str) -> list[str]:
    common = ["--store", here.store.uri, "--tokenizer", str(here.tokenizer), "--device", "cpu"]
    return ["evaluate", *more, "--domains", str(here.texts), *common]


def test_one_checkpoint_and_several(here: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(here, "checkpoint/toy")) == 0
    shown = capsys.readouterr().out
    assert "step20-tokens0B" in shown and "blogs" in shown and "mean of its domains" in shown
    assert "from each to the next" not in shown
    assert main(words(here, "checkpoint/toy@step*", "--report")) == 0
    said = capsys.readouterr()
    shown = said.out
    assert re.sub(r"\d+ s", "T", said.err).splitlines() == [
        f"evaluating {place}{what}"
        for place, ending in (
            ("1 of 3: step0-tokens0B", "done"),
            ("2 of 3: step10-tokens0B", "done"),
            ("3 of 3: step20-tokens0B", "reused"),
        )
        for what in ("", f"  {ending}, T")
    ]
    assert "step0-tokens0B → step10-tokens0B" in shown and "p (Holm)" in shown
    assert shown.count("(reused)") == 1, "the one that was evaluated before"
    assert "olmo report evaluation toy-texts --open" in shown
    assert main(["report", "evaluation", "toy-texts", "--store", here.store.uri, "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["file"]).is_file()


def test_json_has_every_number(here: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(here, "checkpoint/toy@step*", "--json")) == 0
    said = capsys.readouterr()
    assert not said.err
    found = json.loads(said.out)
    assert [one["step"] for one in found["evaluations"]] == [0, 10, 20]
    fit = found["evaluations"][0]["results"]["texts-domains"]["domains"]["blogs"]
    assert (
        fit["documents"] == 12
        and fit["bits_per_byte"]["low"] < fit["bits_per_byte"]["value"] < fit["bits_per_byte"]["high"]
    )
    assert {one["verdict"] for one in found["changes"]} <= {"better", "worse", "not resolved"}


def test_what_could_not_be_scored_is_told_by_the_exit_code(
    here: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model whose numbers are not finite."""
    import torch

    from olmo_core.evaluation import run

    def broken(*arguments: Any, **named: Any) -> Any:
        model = real(*arguments, **named)
        with torch.no_grad():
            model.embedding.weight.fill_(float("nan"))
        return model

    real = run.load_model
    monkeypatch.setattr(run, "load_model", broken)
    assert main(words(here, "checkpoint/toy", "--tokens", "50")) == 1
    said = capsys.readouterr()
    assert "documents could not be scored" in said.err and "–" in said.out


def test_an_interruption_says_what_goes_on(
    here: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the second of three is scored: the same command then has the first already."""
    from olmo_core.evaluation import run

    def interrupted(*arguments: Any, **named: Any) -> Any:
        loaded.append(arguments)
        if len(loaded) == 2:
            # As at a terminal: what a shell has started in the background ignores the signal.
            before = signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.signal(signal.SIGINT, before)
        return real(*arguments, **named)

    real, loaded = run.load_model, list[Any]()
    monkeypatch.setattr(run, "load_model", interrupted)
    command = words(here, "checkpoint/toy@step*", "--tokens", "60")
    assert main(command) == 130
    said = capsys.readouterr().err
    assert (
        "olmo evaluate: interrupted: what is scored is kept. It goes on with: olmo evaluate 'checkpoint/toy@step*'"
        in said
    )
    assert "evaluating 2 of 3: step10-tokens0B\n" in said and "evaluating 2 of 3: step10-tokens0B  done" not in said
    assert main(command) == 0
    assert "evaluating 1 of 3: step0-tokens0B  reused" in capsys.readouterr().err


def test_progress_is_told_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """Where standard error is no terminal: at most every ten seconds, with the time that is left."""
    times = iter([0.0, 1.0, 9.0, 12.0, 13.0, 20.0])
    progress = _Progress("2 of 3: toy", True, lambda: next(times))
    for done in (0, 10, 20, 30):
        progress("copa", done, 130)
    progress.clear()
    progress.done(False)
    assert capsys.readouterr().err.splitlines() == [
        "evaluating 2 of 3: toy",
        "evaluating 2 of 3: toy  copa: 20 of 130 requests, about 60 s left",
        "evaluating 2 of 3: toy  done, 20 s",
    ]


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["checkpoint/none"], 1, "there is no checkpoint/none"),
        (["checkpoint/toy", "--recipe", "nothing"], 1, "no evaluation recipe 'nothing'; there are: core"),
        (["checkpoint/toy", "--benchmarks", "copper"], 1, "no benchmark 'copper'"),
        (["checkpoint/toy", "--limit", "5"], 2, "there are no benchmarks"),
        (["checkpoint/toy", "--tokenizer", "no-such-asset"], 1, "no-such-asset"),
    ],
)
def test_what_cannot_be_is_refused(
    here: Place, more: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(here), *more]) == code
    assert said in capsys.readouterr().err


def test_a_report_of_nothing_names_what_there_is(here: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "evaluation", "nothing", "--store", here.store.uri]) == 1
    assert "no evaluations evaluation/nothing" in capsys.readouterr().err
    assert main(["report", "one", "two", "--store", here.store.uri]) == 2


def chosen(*options: str) -> EvaluationRecipe:
    parser = argparse.ArgumentParser()
    evaluation_choices.add_arguments(parser)
    return evaluation_choices.recipe(parser.parse_args(options))


def test_options_make_a_recipe_under_a_name_of_its_own() -> None:
    assert chosen() == load_evaluation_recipe("core")
    assert chosen("--benchmarks", "core", "--limit", "50").name == "core-limit50"
    assert chosen("--recipe", "quick", "--limit", "20").name == "quick-limit20"
    assert chosen("--recipe", "quick") == load_evaluation_recipe("quick")
    made = chosen("--benchmarks", "piqa,copa", "--format", "in_loop", "--corpus", "corpus/quickstart-validation")
    assert made.name == "piqa-copa-texts-in-loop"
    assert [one.format for one in made.benchmarks] == ["in_loop"] * 2
    assert made.domains[0].name == "quickstart-validation"
    assert chosen("--benchmarks", "truthfulqa_mc2", "--stand-in").stand_in
    for options in (("--domains", "x", "--shots", "3"), ("--benchmarks", "copa", "--tokens", "5")):
        with pytest.raises(UsageError):
            chosen(*options)


def test_every_recipe_of_the_project_can_be_read() -> None:
    names = [path.stem for path in sorted(RECIPES.glob("*.yaml"))]
    assert {"core", "quick", "paper", "domains", "tiny", "in-loop"} <= set(names)
    assert all(load_evaluation_recipe(name).name == name for name in names)


def test_benchmarks_are_exported_to_be_kept_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "benchmarks", "truthfulqa_mc2", "--stand-in", "--to", str(tmp_path / "sets")]) == 0
    shown = capsys.readouterr().out
    assert "kind: jsonl" in shown and "fields: [question]" in shown
    rows = [json.loads(line) for line in (tmp_path / "sets" / "truthfulqa_mc2.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and rows[1]["question"] == "How many legs does a spider have?"
    assert rows[1]["choices"][0] == "A spider has eight legs"
    assert main(["export", "benchmarks", "copper", "--to", str(tmp_path)]) == 1


def test_the_automation_takes_what_the_event_carries() -> None:
    made = automation("gpu", "some-id")
    assert made["trigger"]["match"] == {"prefect.resource.id": "olmo.checkpoint.*", "olmo.evaluate-on": "gpu"}
    (action,) = made["actions"]
    assert action["parameters"]["models"][0]["template"] == "{{ event.payload.checkpoint }}"
