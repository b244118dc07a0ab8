"""`olmo run data-to-model`: the whole chain in this process, what it would do, and the summary at its end; `olmo run ablate-data`."""

from __future__ import annotations

import argparse
from typing import Any

from flows.command import choices, tables
from flows.command.run_training import trainer_of
from flows.command.usage import refuse
from olmo_core.artifacts.plan import plan
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import Chain, resolve_models, take_inventories
from olmo_core.curation.corpus_recipe import CorpusRecipe, load_recipe
from olmo_core.errors import InputError
from olmo_core.summary.recipe import DataToModelRecipe, load_data_to_model
from olmo_core.train.advice import taken_over, unwise
from olmo_core.train.forecast import forecast
from olmo_core.train.overrides import recipe_with
from olmo_core.train.run_file import RunFile

_IN_THE_RECIPE = (
    *choices.OVERRIDES, "data", "tokens", "held_out", "start", "budget", "batch", "sequence_length", "learning_rate", "warmup",
)  # fmt: skip
"""Options of other flows: here the recipe file says them."""


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    from flows.command.run import prefect_environment, server

    refuse(arguments, _IN_THE_RECIPE, ": write it into the recipe (overrides); docs/data-to-model.md")
    if arguments.flow == "ablate-data":
        return _ablate(arguments)
    if arguments.plan:
        return _plan(ArtifactStore(choices.store(arguments)), arguments)
    prefect_environment()
    from tasks.data_to_model import open_chain

    resources = chain_resources(arguments)
    open_chain(
        arguments.recipe, resources
    )  # what is wrong with its recipes, before Prefect is started and a run is on record
    with server():
        from flows.data_to_model import data_to_model

        made: dict[str, str] = data_to_model(recipe=arguments.recipe, resources=resources)
    store = ArtifactStore(choices.store(arguments))
    if arguments.json:
        tables.show_json({**made, "store": store.uri})
    else:
        print(text_of(store, made["summary"]))
    return 0


def _ablate(arguments: argparse.Namespace) -> int:
    from flows.command.run import prefect_environment, server

    refuse(arguments, ("plan",), "; `olmo plan --recipe FILE.yaml#VARIANT` tells of one corpus")
    prefect_environment()
    from tasks.ablation import open_ablation

    recipe = "raw-against-curated" if arguments.recipe == "quickstart" else arguments.recipe
    resources = chain_resources(arguments)
    open_ablation(recipe, resources)
    with server():
        from flows.ablate_data import ablate_data

        made: dict[str, str] = ablate_data(recipe=recipe, resources=resources)
    store = ArtifactStore(choices.store(arguments))
    if arguments.json:
        tables.show_json({**made, "store": store.uri})
    else:
        print(text_of(store, made["report"], "ablation.txt"))
    return 0


def chain_resources(arguments: argparse.Namespace) -> Any:
    """Return the resources that the options ask for."""
    from olmo_core.evaluation.resources import ScoringResources
    from tasks.data_to_model import ChainResources
    from tasks.training import TrainingResources

    return ChainResources(
        store=choices.store(arguments),
        credentials_block=arguments.credentials_block,
        workers=arguments.workers,
        training=TrainingResources(
            processes=arguments.processes, threads=arguments.threads, trainer=trainer_of(arguments)
        ),
        scoring=ScoringResources(device=arguments.device or "auto"),
    )


def text_of(store: ArtifactStore, address: str, object_: str = "summary.txt") -> str:
    """Return the text of a report artifact."""
    manifest = store.manifest(store.resolve(address))
    return store.storage.read(manifest.object(object_).path).decode()


def _plan(store: ArtifactStore, arguments: argparse.Namespace) -> int:
    recipe = load_data_to_model(arguments.recipe)
    rows, run = planned(store, recipe, rehash=arguments.rehash)
    made = store.find(run.tokens)
    warnings, code = [], 0
    if store.find(run.ref) is None:
        epochs = None
        try:
            epochs = forecast(run.recipe, made).epochs if made is not None else None
        except InputError as error:
            warnings, code = [f"the training will fail: {error}"], 1
        warnings += [*unwise(run, epochs), *taken_over(store, run)]
    if arguments.json:
        stages = [dict(zip(HEADER, row, strict=True)) for row in rows]
        tables.show_json({"store": store.uri, "recipe": recipe.name, "stages": stages, "warnings": warnings})
        return code
    tables.show(rows, HEADER, left=4)
    for one in warnings:
        print(f"WARNING  {one}")
    return code


HEADER = ("stage", "", "artifact", "why")


def planned(
    store: ArtifactStore, recipe: DataToModelRecipe, *, rehash: bool = False
) -> tuple[list[tuple[str, str, str, str]], RunFile]:
    """Return what each stage would do (`build`, `train`, `go on`, `reuse`, `score`), what it makes, and why; and the training run.

    The fingerprints of tokens and run are known before anything is built. Lists the input files and reads new ones.
    """
    loaded = load_recipe(recipe.corpus.recipe, recipe.corpus.overrides)
    chain, steps = _corpus(store, loaded, rehash)
    todo = [one for one in steps if one.action == "build"]
    why = "; ".join(f"{one.label}: {'; '.join(one.why)}" for one in todo[:1])[:100]
    action = f"build {len(todo)} of {len(steps)} stages" if todo else "reuse"
    tokens = chain.ref("packing")
    rows = [("corpus", action, str(tokens), why)]
    run = RunFile(store=store.uri, recipe=recipe_with(recipe.training.recipe, recipe.training.overrides), tokens=tokens)
    rows.append(("training", *_training(store, run)))
    last = run.checkpoint(run.recipe.steps)
    rows.append(("evaluation", *_evaluation(store, recipe, last)))
    return rows, run


def _corpus(store: ArtifactStore, recipe: CorpusRecipe, rehash: bool) -> tuple[Chain, list[Any]]:
    resolved, models = resolve_models(store, recipe)
    chain = Chain(recipe=resolved, inventories=take_inventories(store, resolved, rehash=rehash), models=models)
    return chain, list(plan(store, chain.steps()))


def _training(store: ArtifactStore, run: RunFile) -> tuple[str, str, str]:
    from olmo_core.train.run_record import checkpoints

    if store.find(run.ref) is not None:
        return "reuse", str(run.ref), ""
    if saved := checkpoints(store, run.ref):
        return "go on", str(run.ref), f"from step {saved[-1].recipe['step']:,} of {run.recipe.steps:,}"
    return "train", str(run.ref), f"{run.recipe.steps:,} steps, {run.recipe.model.parameters:,} parameters"


def _evaluation(store: ArtifactStore, recipe: DataToModelRecipe, checkpoint: ArtifactRef) -> tuple[str, str, str]:
    from olmo_core.evaluation.recipe import load_evaluation_recipe

    part = recipe.evaluation
    asked = load_evaluation_recipe(part.recipe)
    name = f"{checkpoint.name}-{asked.name}" + (f"-limit{part.limit}" if part.limit else "")
    done = [m for m in store.finished(str(Kind.EVALUATION), name) if m.inputs.get("checkpoint") == checkpoint]
    if done:
        return "reuse", str(done[-1].ref), "the same checkpoint; scored anew only where the recipe has changed"
    return "score", f"evaluation/{name}", f"{part.checkpoints} of {checkpoint}"
