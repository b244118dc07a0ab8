"""`olmo run`: a flow in this process, without a worker; in the dashboard too when this project's server runs."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.command import choices, password, run_chain, run_training, tables
from flows.command.project import Project, find_project
from flows.command.server_api import ServerApi
from flows.command.signals import resumable
from flows.command.temporary_server import GRACE, await_records, temporary_server
from flows.command.usage import whole
from flows.command.waterfall import print_waterfall
from olmo_core import processes
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import resolve_models
from olmo_core.curation.corpus_recipe import Overrides
from olmo_core.curation.evaluation_sets import list_set
from olmo_core.documents.listing import list_files
from olmo_core.documents.reader import scan
from olmo_core.report.explain import manifests_of

if TYPE_CHECKING:
    from tasks.session import Resources

DESCRIPTION = """\
Run a flow in this process. Finished stages are reused and finished shards of an interrupted run are taken over. With
--sample or --limit it is a trial: the artifacts get the name {name}-trial, and time, bytes and tokens of the whole are
estimated. train-olmo has options of its own, listed last; data-to-model and ablate-data take a recipe and the options of
machine and store. If the project's Prefect server runs (`olmo up`), the run shows in its dashboard; otherwise a server is
started for the time of the run, with a dashboard of its own; its address is told.
"""
FLOWS = ("build-dolma", "train-classifier", "train-olmo", "data-to-model", "ablate-data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("flow", choices=FLOWS, metavar="FLOW", help=f"one of: {', '.join(FLOWS)}")
    parser.add_argument("file", nargs="?", metavar="RECIPE", help="the same as --recipe")
    choices.add_recipe(parser)
    choices.add_store(parser)
    parser.add_argument("--data", metavar="FILE", help="train-classifier: labelled texts, instead of the recipe's file")
    parser.add_argument("--workers", type=whole(1), metavar="N", help="worker processes (default: one per core)")
    parser.add_argument(
        "--credentials-block", metavar="NAME", help="Prefect Secret block with the store's AWS_... variables"
    )
    parser.add_argument(
        "--rebuild",
        action="append",
        default=[],
        type=choices.stage,
        metavar="STAGE[/SOURCE]",
        help="run this stage again although its artifact is there, and compare the bytes; repeatable",
    )
    run_training.add_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code. SIGTERM and SIGHUP end it by that signal."""
    with resumable("olmo run", arguments.words, "finished stages and shards are kept"):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.file is not None:
        arguments.recipe = arguments.file
    if arguments.flow == "train-olmo":
        return run_training.run(arguments)
    if arguments.flow in ("data-to-model", "ablate-data"):
        return run_chain.run(arguments)
    run_training.refuse_own(arguments)
    if arguments.flow == "train-classifier":
        return _train(arguments)
    overrides = choices.overrides(arguments)
    prefect_environment()
    from tasks.session import Resources

    resources = Resources(
        store=choices.store(arguments),
        workers=arguments.workers,
        rehash=arguments.rehash,
        rebuild=tuple(arguments.rebuild),
        credentials_block=arguments.credentials_block,
    )
    if arguments.credentials_block is None:
        return _build(arguments, overrides, resources, server())
    with server():  # it has the block, and everything else needs what is in it
        from tasks.credentials import credentials

        with credentials(arguments.credentials_block):
            return _build(arguments, overrides, resources, contextlib.nullcontext())


def _build(
    arguments: argparse.Namespace, overrides: Overrides, resources: Resources, prefect: AbstractContextManager[None]
) -> int:
    from tasks.session import checked

    # Before Prefect is started and a run is on record: what is wrong with recipe, store and options, and input files.
    recipe, workers = checked(arguments.recipe, overrides, resources)
    resolve_models(ArtifactStore(choices.store(arguments)), recipe)
    for source in recipe.sources:
        scan(source.read)
    for one in recipe.decontamination.sets if recipe.decontamination else ():
        list_set(one)
    if recipe.takedown is not None:
        list_files("takedown", recipe.takedown.paths, None)
    began = time.monotonic()
    with prefect:
        from flows.build_dolma import build_dolma

        made: dict[str, str] = build_dolma(recipe=arguments.recipe, overrides=overrides, resources=resources)
    seconds = time.monotonic() - began
    store = ArtifactStore(choices.store(arguments))
    corpus = made["tokens"].split("/")[1]
    manifests = manifests_of(store, corpus)
    estimate = _estimate(manifests, workers) if overrides.sample or overrides.limit else None
    if arguments.json:
        tables.show_json({**made, "store": store.uri, "seconds": round(seconds, 1), "estimate": estimate})
        return 0
    print_waterfall(manifests)
    print(
        f"\ntokens  {store.storage.url(made['tokens'])}\nreport  {store.storage.url(made['report'])}\n{seconds:.0f} s"
    )
    if estimate:
        tables.show(list(estimate.items()), ("estimate for the whole", ""))
        print(_counted(manifests, seconds))
    return 0


def _train(arguments: argparse.Namespace) -> int:
    recipe = "toxic-tweets" if arguments.recipe == "quickstart" else arguments.recipe
    with server():
        from flows.train_classifier import train_classifier
        from tasks.session import Resources

        resources = Resources(
            store=choices.store(arguments), rehash=arguments.rehash, credentials_block=arguments.credentials_block
        )
        made: dict[str, str] = train_classifier(recipe=recipe, data=arguments.data, resources=resources)
    if arguments.json:
        tables.show_json(made)
    else:
        print(f"model   {made['model']}; `olmo artifacts show {made['model']}` tells more")
    return 0


@contextlib.contextmanager
def server() -> Iterator[None]:
    """Point Prefect at PREFECT_API_URL, else at this project's server if it answers, else at one started for this run."""
    url, temporary = prefect_environment()
    if url is None:
        yield
        return
    if not temporary:
        with _pointed_at(url):
            yield
        return
    with temporary_server(find_project()) as own, _pointed_at(own.api_url):
        began = datetime.now(UTC)
        try:
            yield
        finally:
            from prefect.events.worker import EventsWorker
            from prefect.logging.handlers import APILogHandler

            # What is yet to be sent would be an error after the server has gone, and no more on record.
            APILogHandler().flush()
            EventsWorker.drain_all(timeout=GRACE)
        await_records(own, began)


@contextlib.contextmanager
def _pointed_at(url: str) -> Iterator[None]:
    """Make a server Prefect's own, and its dashboard that of the addresses which Prefect prints."""
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: url, PREFECT_UI_URL: f"{url.removesuffix('/api')}/v2"}):
        yield


def prefect_environment() -> tuple[str | None, bool]:
    """Set the variables that Prefect reads when it is imported: call it before anything of `tasks` or `flows` that imports it.

    Returns the address of this project's server, None where PREFECT_API_URL names another one, and whether a server is to be started.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_RESULTS_DEFAULT_SERIALIZER", "json")
    project = find_project()
    url = project.read_state().api_url
    # This project's own address was put there by our plugin, which runs when Prefect is imported: nobody asked for it.
    if os.environ.get("PREFECT_API_URL", url) != url:
        return None, False
    temporary = not answers(project)
    if temporary:
        home = project.home / "prefect-run"
        project.home.mkdir(parents=True, exist_ok=True)
        home.mkdir(mode=0o700, exist_ok=True)  # as the other server's: what runs logged is for its owner only
        os.environ.setdefault("PREFECT_HOME", str(home))
        # A password that was once given to this project's server is for this one, too.
        secret = os.environ.get(password.SERVER) or password.stored(project)
        if secret:
            os.environ[password.SERVER] = secret
        os.environ.setdefault("PREFECT_SERVER_CSRF_PROTECTION_ENABLED", "true")
    else:
        ServerApi.of(project).request("GET", "/admin/version")  # raises here, in our words, where the password is wrong
        secret = password.of_commands(project)
    if secret:
        os.environ.setdefault(password.CLIENT, secret)
    return url, temporary


def answers(project: Project) -> bool:
    """Say whether a project's Prefect server is there; one that `olmo up` has started may take its time."""
    state = project.read_state()
    if processes.is_running(state.server):
        return ServerApi(state.port, host=state.host).is_healthy()
    return ServerApi(state.port, host=state.host, timeout=3, patience=0).is_healthy()


def _estimate(manifests: dict[str, Any], workers: int) -> dict[str, Any]:
    """Scale a trial up to the whole: by bytes of text; fixed costs of the stages are scaled too. What is around them is not in it."""
    read = kept = 0
    for label, manifest in manifests.items():
        if label.startswith("documents/"):
            read += manifest.ledger.read.bytes
            kept += manifest.ledger.kept.bytes
    scale = read / kept if kept else 0.0
    cpu = sum(m.cpu_seconds for m in manifests.values())
    stored = sum(o.size for m in manifests.values() for o in m.objects)
    tokens = int(manifests["packing/all"].counts.get("tokens", 0))
    return {
        "of the text read": f"{1 / scale:.1%}" if scale else "nothing",
        "CPU seconds": round(cpu * scale),
        f"seconds with {workers} workers": round(cpu * scale / workers),
        "bytes in the store": round(stored * scale),
        "tokens": round(tokens * scale),
    }


def _counted(manifests: dict[str, Any], seconds: float) -> str:
    """Say what an estimate counts, beside what the trial took as a whole."""
    cpu = sum(m.cpu_seconds for m in manifests.values())
    return (
        "Counted is the CPU time of the stages' own work, scaled by bytes of text. Starting Prefect and the workers, and "
        f"waiting, come on top: this trial took {seconds:.0f} s; its stages' work is {cpu:.1f} CPU seconds."
    )
