"""Evaluation in processes of its own: two that hold a part of the model each find what one finds; how it ends otherwise."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from olmo_core import processes
from olmo_core.errors import InputError, JobError, RecipeError
from olmo_core.evaluation.compare import read_evaluation
from olmo_core.evaluation.recipe import DomainRecipe
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.run import evaluate, evaluation_ref
from olmo_core.evaluation.targets import Target, find_targets
from tasks.evaluation import EvaluationResources
from tasks.evaluation_job import evaluate_apart
from tasks.launch.torchrun import MARK
from tests.evaluation.places import Place, place

CLOSE = 1e-4


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return place(tmp_path_factory.mktemp("apart"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where jobs leave their files."""
    monkeypatch.setenv("OLMO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return tmp_path / "home"


def target(here: Place, tag: str = "step20-tokens0B") -> Target:
    (found,) = find_targets(here.store, [f"checkpoint/toy@{tag}"])
    return found


def resources(here: Place, folder: Path, **more: Any) -> ScoringResources:
    return ScoringResources(device="cpu", tokenizer=str(here.tokenizer), scores=str(folder), **more)


def nothing(*news: object) -> None:
    """Take what is told."""


@pytest.mark.slow
def test_two_ranks_with_half_a_model_each(here: Place, tmp_path: Path, home: Path) -> None:
    one = evaluate(here.store, here.recipe, target(here), resources(here, tmp_path / "alone"))
    same = dataclasses.replace(here.recipe, name="apart")
    sharded = resources(here, tmp_path / "apart", shard=True)
    said: list[str] = []
    two = evaluate_apart(here.store, same, target(here), sharded, 2, say=said.append, progress=nothing)
    assert not two.reused and "with 2 processes" in said[0]
    expected, found = (read_evaluation(here.store, built.manifest) for built in (one, two))
    alone, apart = (one.results["texts-domains"] for one in (expected, found))
    assert apart["bits_per_byte"] == pytest.approx(alone["bits_per_byte"], rel=1e-6)
    tables = [table(here, built, "log_likelihood") for built in (one, two)]
    assert tables[1] == pytest.approx(tables[0], abs=CLOSE) and len(tables[0]) == 24
    assert len([path for path in (tmp_path / "apart").rglob("*.scores") if path.stat().st_size > 100]) == 2
    assert here.store.tags("evaluation", "toy-apart").keys() == {"latest", "step20-tokens0B"}
    # Once more it is found, and no process is started.
    again = evaluate_apart(here.store, same, target(here), sharded, 2, say=said.append, progress=nothing)
    assert again.reused and len(said) == 1


def table(here: Place, built: Any, column: str) -> list[float]:
    (path,) = [one.path for one in built.manifest.objects if ".documents" in one.key]
    values: list[float] = pyarrow.parquet.read_table(io.BytesIO(here.store.storage.read(path)))[column].to_pylist()
    return values


@pytest.mark.slow
def test_what_stopped_a_job_is_said(here: Place, tmp_path: Path, home: Path) -> None:
    """Rank 0 cannot write its cache; the job's last words say so."""
    (tmp_path / "a file").write_text("")
    wrong = resources(here, tmp_path / "a file" / "scores")
    recipe = dataclasses.replace(here.recipe, name="wrong")
    with pytest.raises(JobError, match=r"ended with exit code 1; a retry goes on(.|\n)*a file"):
        evaluate_apart(here.store, recipe, target(here), wrong, 1, say=nothing, progress=nothing)
    with pytest.raises(InputError, match="has no file that ends with"):  # before anything is started
        texts = dataclasses.replace(recipe, domains=(DomainRecipe(name="texts", folder=str(tmp_path / "none")),))
        evaluate_apart(here.store, texts, target(here), wrong, 1, say=nothing, progress=nothing)


@pytest.mark.slow
def test_a_flow_that_is_told_to_end_ends_its_job(here: Place, tmp_path: Path, home: Path) -> None:
    """And a job that outlived its flow is ended by the next one of that evaluation; one whose flow lives is left alone."""
    recipe = dataclasses.replace(here.recipe, name="ended")
    ref = evaluation_ref(here.store, recipe, target(here), resources(here, tmp_path))
    job = f"evaluate-step20-tokens0B-{ref.fingerprint[:12]}"
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, other = f"{job}-{gone.pid}-0123abcd", f"{job}-{os.getppid()}-4567cdef"
    old, lives = (subprocess.Popen(["sleep", "600"], env={**os.environ, MARK: mark}) for mark in (left, other))
    said: list[str] = []

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("started"):
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            evaluate_apart(here.store, recipe, target(here), resources(here, tmp_path), 1, say=say, progress=nothing)
    finally:
        signal.signal(signal.SIGINT, before)
    assert old.wait(60) != 0 and f"{left} still runs, and its flow run does not: ending it" in said
    assert said[-1].startswith("told to end (KeyboardInterrupt)")
    assert [value for value in processes.values_of(MARK) if value.startswith(job)] == [other]
    lives.kill()
    lives.wait()


def test_what_cannot_be_shared_is_refused_before_anything_starts() -> None:
    with pytest.raises(RecipeError, match="give more"):
        EvaluationResources(scoring=ScoringResources(shard=True))
    with pytest.raises(RecipeError, match="at least 1"):
        EvaluationResources(processes=0)
    assert not EvaluationResources().apart
    assert EvaluationResources(processes=2).apart
    assert EvaluationResources(scoring=ScoringResources(device="cuda")).apart
