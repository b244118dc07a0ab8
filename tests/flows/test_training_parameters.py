"""What train-olmo's parameters mean: held-out tokens by default, ranks by the machine, the run's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError, RecipeError
from olmo_core.train.overrides import TrainOverrides
from olmo_core.train.run_file import TrainResources
from tasks.training import AUTO, TrainingResources, launcher, resolve, run_title
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
