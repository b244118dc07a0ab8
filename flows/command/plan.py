"""`olmo plan`: what a run would build or reuse, and why, without building anything."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.command import choices, tables
from flows.command.usage import refuse
from olmo_core.artifacts.plan import plan
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import Chain, resolve_models, take_inventories
from olmo_core.curation.corpus_recipe import load_recipe
from olmo_core.recipe import flow_of, read_yaml
from olmo_core.report.markdown import size

DESCRIPTION = """\
Say for each stage of build-dolma whether it will be built or reused, how many of its shards, and which field or input
changed. Lists the input files, and reads those that no earlier run has read; builds nothing. Of a recipe file of data-to-model or
train-olmo it says what `olmo run FLOW FILE --plan` does, with what is unwise in it.
"""
_OTHERS = ("data-to-model", "train-olmo")
"""Flows that have a plan of their own."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    choices.add_recipe(parser)
    choices.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    if (flow := _other_flow(arguments.recipe)) is not None:
        return _plan_of(flow, arguments)
    store = ArtifactStore(choices.store(arguments))
    recipe, models = resolve_models(store, load_recipe(arguments.recipe, choices.overrides(arguments)))
    inventories = take_inventories(store, recipe, rehash=arguments.rehash)
    planned = plan(store, Chain(recipe=recipe, inventories=inventories, models=models).steps())
    if arguments.json:
        tables.show_json({"store": store.uri, "recipe": recipe.name, "stages": [p.to_json() for p in planned]})
        return 0
    rows = [
        (
            p.label,
            p.action,
            f"{p.shards_reused} of {p.shards}",
            size(p.bytes_to_read) if p.bytes_to_read else "",
            "; ".join(p.why)[:120],
        )
        for p in planned
    ]
    tables.show(rows, ("stage", "", "shards reused", "to read", "why"), left=5)
    built = sum(p.action == "build" for p in planned)
    print(
        f"\n{built} of {len(planned)} stages to build in {store.uri}."
        + (" Shards of stages after a built one: at least so many are reused." if built else "")
    )
    return 0


def _other_flow(recipe: str) -> str | None:
    """Return the flow whose recipe a file is, where that has a plan of its own."""
    if not (recipe.endswith((".yaml", ".yml")) and Path(recipe).is_file()):
        return None
    flow = flow_of(read_yaml(Path(recipe)))
    return flow if flow in _OTHERS else None


def _plan_of(flow: str, arguments: argparse.Namespace) -> int:
    from flows.command.main import main

    arguments.flow = f"`olmo plan` of a recipe of {flow}"
    refuse(arguments, choices.OVERRIDES, f"; give it to `olmo run {flow} --plan`, if that has it")
    words = ["run", flow, arguments.recipe, "--plan", "--store", choices.store(arguments)]
    return main([*words, *(f"--{name}" for name in ("json", "rehash") if getattr(arguments, name))])
