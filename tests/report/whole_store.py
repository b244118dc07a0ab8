"""A store with the whole chain in it: the small corpus, a run of a very small model over it, evaluations of its checkpoints.

Names and texts in it try to be markup: a page about the store must show them as what they are.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.evaluation.recipe import BenchmarkRecipe, DomainRecipe, EvaluationRecipe
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.run import evaluate
from olmo_core.evaluation.targets import find_targets
from olmo_core.model.config import ModelRecipe
from olmo_core.train.recipe import DataRecipe, ScheduleRecipe, TrainRecipe
from olmo_core.train.run_file import DONE, RunFile, TrainResources
from olmo_core.train.run_record import put_run_file
from olmo_core.train.session import train
from tests.small_corpus import Run

MARKUP = "<img src=x onerror=document.title='owned'>"
"""Name of a domain of texts."""
STEPS = 6
MODEL = ModelRecipe(
    width=16, layers=1, heads=2, mlp_width=16, vocabulary=50280, embedding_rows=50304, context=128, end_of_text_id=50279
)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The store and what was made last in it."""

    store: ArtifactStore
    run: ArtifactRef
    checkpoints: tuple[ArtifactRef, ...]
    evaluations: tuple[ArtifactRef, ...]
    recipe: EvaluationRecipe


def build_whole(folder: Path, small: Run) -> Whole:
    """Copy the small corpus's store, train on its tokens in this process, and evaluate two checkpoints."""
    shutil.copytree(small.folder / "store", folder / "store")
    store = ArtifactStore(str(folder / "store"))
    recipe = TrainRecipe(
        name="toy",
        model=MODEL,
        tokens=STEPS * 2 * 64,
        batch=2,
        precision="float32",
        data=DataRecipe(sequence_length=64),
        schedule=ScheduleRecipe(warmup=2),
    )
    run = RunFile(
        store=store.uri,
        recipe=recipe,
        tokens=small.built["packing/all"].ref,
        resources=TrainResources(device="cpu", save_every=3),
    )
    put_run_file(store, run)
    assert train(run) == DONE
    texts = folder / "texts"
    texts.mkdir()
    rows = [json.dumps({"id": str(i), "text": f"Document {i} of the domain. " * (i + 1)}) for i in range(4)]
    (texts / f"{MARKUP}.jsonl").write_text("\n".join(rows))
    asked = EvaluationRecipe(
        name="few",
        benchmarks=(BenchmarkRecipe(name="truthfulqa_mc2", limit=3, seed=1),),
        domains=(DomainRecipe(name="text", folder=str(texts)),),
        stand_in=True,
    )
    resources = ScoringResources(device="cpu", scores=str(folder / "scores"))
    made = [evaluate(store, asked, one, resources).ref for one in find_targets(store, ["checkpoint/toy@step*"])]
    return Whole(
        store=store,
        run=run.ref,
        checkpoints=tuple(run.checkpoint(step) for step in (0, 3, 6)),
        evaluations=tuple(made),
        recipe=asked,
    )
