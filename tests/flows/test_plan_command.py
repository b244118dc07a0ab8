"""`olmo plan` of recipes of other flows, and what is unwise in them: said before anything is built."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows.command.main import main
from flows.command.run_chain import planned
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.recipe import flow_of, read_yaml
from olmo_core.summary.recipe import load_data_to_model
from tests.flows.test_data_to_model import recipes
from tests.train.token_artifacts import tokens_artifact

RECIPES = Path(__file__).parents[2] / "deployments" / "recipes"


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A recipe of data-to-model whose training has 20 steps of 4 instances of 64 tokens, and a warmup of 50."""
    file = recipes(tmp_path)
    training = yaml.safe_load((tmp_path / "training.yaml").read_text(encoding="utf-8"))
    training["schedule"]["warmup"] = 50
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(training), encoding="utf-8")
    return file


def made(store: ArtifactStore, chain: Path, tokens: int) -> None:
    """Put tokens, so many, where the chain's corpus would be."""
    manifest = tokens_artifact(store, [np.zeros(tokens, np.uint16)], name="chained")
    _, run = planned(store, load_data_to_model(str(chain)))
    store.publish(dataclasses.replace(manifest, ref=run.tokens))


@pytest.mark.parametrize(
    ("tokens", "code", "said"), [(None, 0, None), (4 * 64 + 1, 0, "20.0 epochs"), (200, 1, "fewer")]
)
def test_a_chains_plan_says_what_is_unwise(
    chain: Path, tokens: int | None, code: int, said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the corpus, once it is made: how often the run would see it, or that it is less than one batch."""
    store = ArtifactStore(str(chain.parent / "store"))
    if tokens is not None:
        made(store, chain, tokens)
    words = ("plan", "--recipe", str(chain), "--store", store.uri)
    assert main([*words, "--json"]) == code
    warnings = json.loads(capsys.readouterr().out)["warnings"]
    (warmup,) = [one for one in warnings if one.startswith("schedule.warmup: 50 steps, and the run has 20")]
    assert [said in one for one in warnings if one != warmup] == ([True] if said else []), warnings
    assert main([*words]) == main(["run", "data-to-model", *words[2:], "--plan"]) == code
    shown = capsys.readouterr().out
    assert shown.count(f"WARNING  {warmup}") == 2 and shown.count("\ncorpus ") == 2
    assert main([*words, "--seed", "3"]) == 2
    assert "--seed is no option of `olmo plan` of a recipe of data-to-model" in capsys.readouterr().err


def test_a_chains_plan_says_whose_name_it_takes(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a finished run of the same name, on other tokens."""
    store = ArtifactStore(str(chain.parent / "store"))
    manifest = tokens_artifact(store, [np.zeros(5 * 64, np.uint16)], name="others")
    _, run = planned(store, load_data_to_model(str(chain)))
    other = dataclasses.replace(run, tokens=manifest.ref)
    store.publish(dataclasses.replace(manifest, ref=other.ref))
    store.tag(other.ref, "latest")
    assert main(["run", "data-to-model", str(chain), "--store", store.uri, "--plan"]) == 0
    shown = capsys.readouterr().out
    assert shown.count(f"is also the name of {other.ref}, another run") == 1
    training = str(chain.with_name("training.yaml"))
    words = ["run", "train-olmo", training, "--tokens", "tokens/others", "--store", store.uri, "--plan"]
    assert main([*words, "--seed", "77"]) == 0
    assert f"WARNING      name: {run.recipe.name!r} is also the name of {other.ref}" in capsys.readouterr().out
    assert main([*words, "--seed", "77", "--name", "free"]) == 0
    assert "is also the name" not in capsys.readouterr().out


def test_a_trainings_plan_says_the_same(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the recipe leaves out what has a default."""
    training = yaml.safe_load(chain.with_name("training.yaml").read_text(encoding="utf-8"))
    training.pop("optimizer", None)
    chain.with_name("training.yaml").write_text(yaml.safe_dump(training), encoding="utf-8")
    store = ArtifactStore(str(chain.parent / "store"))
    manifest = tokens_artifact(store, [np.zeros(5 * 64, np.uint16)], name="quickstart")
    store.tag(manifest.ref, "latest")
    assert main(["plan", "--recipe", str(chain.with_name("training.yaml")), "--store", store.uri]) == 0
    shown = capsys.readouterr().out
    assert (
        "WARNING      schedule.warmup: 50 steps, and the run has 20" in shown
        and "WARNING      tokens: 20.0 epochs" in shown
    )


def test_a_file_tells_of_which_flow_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Each of ours does, and `olmo plan` takes those of another flow for no third one's."""
    folders = {
        ".": "build-dolma",
        "data-to-model": "data-to-model",
        "train": "train-olmo",
        "ablate-data": "ablate-data",
        "classifiers": "train-classifier",
        "evaluation": "evaluate-olmo",
    }
    for folder, flow in folders.items():
        files = sorted((RECIPES / folder).glob("*.yaml"))
        assert files and {flow_of(read_yaml(one)) for one in files} == {flow}, folder
        if flow in ("ablate-data", "train-classifier", "evaluate-olmo"):
            assert main(["plan", "--recipe", str(files[0])]) == 1
            assert f"this is a recipe of {flow}, which" in (said := capsys.readouterr().err) and "olmo plan: " in said
    assert flow_of(["sources"]) is None and flow_of({"name": "x"}) is None
