"""What train-olmo's parameters mean: held-out tokens by default, ranks by the machine, the run's name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from flows.command.main import main
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError, RecipeError
from olmo_core.recipe import canonical
from olmo_core.train.chunks import Chunks
from olmo_core.train.dataset import packed_shards
from olmo_core.train.machine import memory_bytes
from olmo_core.train.overrides import TrainOverrides
from olmo_core.train.run_file import TrainResources
from tasks.training import AUTO, TrainingResources, launcher, resolve, run_title
from tasks.training_fit import Fit, fit
from tests.train.token_artifacts import tokens_artifact

SMALL = TrainOverrides(budget=512, batch=2, sequence_length=16)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    """Tokens `web`, older and newer, each with its validation split."""
    found = ArtifactStore(str(tmp_path))
    for value, tag in ((1, "2026.01.01"), (2, "latest")):
        for name, split in (("web", "train"), ("web-validation", "validation")):
            found.tag(tokens_artifact(found, [np.full(500, value, np.uint16)], name=name, split=split).ref, tag)
    return found


def held_out(store: ArtifactStore, tokens: str, asked: str | None = AUTO) -> Any:
    resources = TrainingResources(trainer=TrainResources(device="cpu"))
    return resolve(store, "tiny", tokens, asked, None, SMALL, resources)[0].held_out


def test_held_out_tokens_are_those_of_the_same_corpus(store: ArtifactStore) -> None:
    """Of the same tag where there is one; none when asked for none, or when there is no split."""
    tags = store.tags("tokens", "web-validation")
    assert held_out(store, "tokens/web") == held_out(store, "tokens/web@latest") == tags["latest"]
    assert held_out(store, "tokens/web@2026.01.01") == tags["2026.01.01"]
    assert held_out(store, f"tokens/web/{store.resolve('tokens/web').fingerprint}") == tags["latest"]
    assert held_out(store, "tokens/web", None) is None
    assert held_out(store, "tokens/web", "tokens/web-validation@2026.01.01") == tags["2026.01.01"]
    store.tag(tokens_artifact(store, [np.full(500, 3, np.uint16)], name="alone").ref, "latest")
    assert held_out(store, "tokens/alone") is None


def test_held_out_tokens_are_no_part_of_the_run(store: ArtifactStore) -> None:
    """Neither are resources: the same run, whatever is measured and wherever it works."""
    one = resolve(store, "tiny", "tokens/web", None, None, SMALL, TrainingResources())[0]
    other = TrainingResources(processes=2, trainer=TrainResources(save_every=3))
    assert resolve(store, "tiny", "tokens/web", AUTO, None, SMALL, other)[0].ref == one.ref
    changed = resolve(store, "tiny", "tokens/web@2026.01.01", None, None, SMALL, TrainingResources())[0]
    assert changed.ref != one.ref


def test_ranks_are_the_machines_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CUDA_VISIBLE_DEVICES says, one on processors, or as many as are asked for."""
    for visible, ranks in (("0,1,2", 3), ("", 1), ("-1", 1), ("GPU-abc", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert TrainingResources().ranks_here == ranks
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert TrainingResources(trainer=TrainResources(device="cpu")).ranks_here == 1
    assert TrainingResources(processes=5).ranks_here == 5


def test_what_the_trainer_would_refuse_is_refused_at_once(store: ArtifactStore, tmp_path: Path) -> None:
    """Before anything waits: fields of the trainer, evaluations that there are not, a checkpoint that does not fit."""

    def refused(said: str, *, start: str | None = None, tokens: str = "tokens/web", **given: Any) -> None:
        overrides = TrainOverrides(**{**SMALL.__dict__, **given.pop("overrides", {})})
        with pytest.raises(RecipeError, match=said):
            resolve(store, "tiny", tokens, AUTO, start, overrides, TrainingResources(**given))

    refused("resources.micro_batch: 0; it must be at least 1", trainer=TrainResources(micro_batch=0))
    refused("resources.evaluate: no evaluation recipe 'quik'; there are:", evaluate="quik")
    asked = TrainResources(evaluate_benchmarks=("copper",))
    refused("resources.trainer.evaluate_benchmarks: there is no benchmark 'copper'", trainer=asked)
    refused("start: there is no checkpoint/none", start="none")
    run = resolve(store, "tiny", "tokens/web", None, None, SMALL, TrainingResources())[0]
    files = packed_shards(store.manifest(run.tokens))
    dataset = Chunks(files, sequence_length=16).fingerprint
    saved = Manifest(
        ref=run.checkpoint(16), stage="checkpoint", version=1, recipe={**canonical(run.recipe), "run": run.ref.fingerprint, "step": 16},
        inputs=run.inputs, attempt="attempt-x", shards=(), ledger=Ledger(), counts={"step": 16, "tokens": 512, "dataset": dataset},
    )  # fmt: skip
    store.publish(saved)
    store.tag(saved.ref, "latest")
    longer = {"budget": 1024}
    for name in ("tiny", "tiny@latest", f"tiny/{saved.ref.fingerprint[:8]}", "checkpoint/tiny", str(saved.ref)):
        overrides = TrainOverrides(**{**SMALL.__dict__, **longer})
        assert resolve(store, "tiny", "tokens/web", AUTO, name, overrides, TrainingResources())[0].start == saved.ref
    refused("are reached at step 16, but the checkpoint .* is of step 16; raise tokens", start="tiny")
    refused("is of another recipe: batch", start="tiny", overrides={**longer, "batch": 4})
    refused("trained on the dataset", start="tiny", tokens="tokens/web@2026.01.01", overrides=longer)


def test_a_plan_compares_memory_and_gpus_with_this_machine(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def found(recipe: str, **given: Any) -> Fit:
        resources = TrainingResources(trainer=TrainResources(**given.pop("trainer", {})), **given)
        return fit(resources, resolve(store, recipe, "tokens/web", AUTO, None, SMALL, resources)[1])

    tiny = found("tiny")
    assert tiny.warnings == () and tiny.has_bytes == memory_bytes()
    assert re.fullmatch(r"needs about [\d.]+\sMB of [\d.]+\sGB on this machine", str(tiny))
    assert found("tiny", processes=2).needs_bytes > tiny.needs_bytes
    (large,) = found("65b").warnings
    assert "it does not fit: it needs about" in large and "lower micro_batch" in large
    (gpu,) = found("tiny", trainer={"device": "cuda"}).warnings
    assert "resources.trainer.device: cuda, but there is no GPU on this machine" in gpu
    cluster = found("65b", launcher="slurm", nodes=2, trainer={"device": "cuda"})
    assert cluster.warnings == () and cluster.has_bytes is None and str(cluster).endswith("GB on each GPU")


def test_impossible_resources_are_refused_before_a_server_sees_them() -> None:
    with pytest.raises(RecipeError, match=r"resources.processes: 0; at least 1 is needed"):
        TrainingResources(processes=0)
    with pytest.raises(OlmoError, match="user name or password"):
        TrainingResources(store="s3://key:secret@bucket")
    with pytest.raises(ValidationError, match="save_evry"):
        TypeAdapter(TrainingResources).validate_python({"trainer": {"save_evry": 3}})


@pytest.mark.parametrize("name", ["torchrun", "slurm", "kubernetes"])
def test_a_job_is_looked_after_by_the_launcher_that_started_it(name: str) -> None:
    """Also when the next one is to be started otherwise."""
    assert launcher(TrainingResources(), name).name == name
    assert launcher(TypeAdapter(TrainingResources).validate_python({"launcher": name})).name == name


def test_runs_are_named_by_what_they_train() -> None:
    assert run_title({"recipe": "7b"}) == "7b"
    assert run_title({"recipe": "tiny", "overrides": {"name": "mine"}}) == "mine"
    assert run_title({"recipe": "tiny", "overrides": TrainOverrides(name="mine")}) == "mine"
    assert run_title({"recipe": "/no/such/file.yaml", "overrides": {"nonsense": 1}}) == "file"


@pytest.mark.parametrize(
    "words", ["build-dolma --plan", "build-dolma --budget 5", "train-classifier --plan", "build-dolma --warmup 0"]
)
def test_options_of_training_are_refused_by_flows_without(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *words.split()]) == 2
    assert f"{words.split()[1]} is no option of {words.split()[0]}" in capsys.readouterr().err
