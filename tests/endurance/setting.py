"""What an endurance run needs: an S3 server, a fault proxy before it, one Prefect server with a worker, and the recipes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from flows.command.server_api import ServerApi
from olmo_core import processes, storage_s3
from olmo_core.curation.corpus_recipe import RECIPES
from olmo_core.documents.environment import EnvironmentSource
from olmo_core.documents.reader import read_documents, scan
from olmo_core.recipe import from_mapping
from tests.fault_proxy import OFTEN, FaultProxy
from tests.flows.conftest import Services, done
from tests.ports import free_port
from tests.s3_server import S3Server, missing
from tests.small_corpus import passages, record, small_recipe, write_jsonl

BUCKET = "endurance"
STORES = ("local", "s3", "s3-faults")
RATES = {fault: rate / 3 for fault, rate in OFTEN.items()}
"""One request in thirty: of a run's thousands enough go wrong, and it still ends in minutes."""
READ_TIMEOUT = 3
"""Seconds a client waits for a byte: stalls cost that much, and a busy server still answers in time."""
STEPS, SAVE_EVERY = 60, 10
"""Of the chain's training: seven checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Everything that runs, and where the stores are."""

    folder: Path
    services: Services
    server: S3Server
    proxy: FaultProxy
    recipe: Path
    flow: str = "build-dolma"
    """What is run, by `olmo run` and as a deployment of this name."""
    words: tuple[str, ...] = ()
    """Further options of `olmo run`."""
    groups: set[int] = field(default_factory=set)
    """Process groups that were started; what is left of them ends with the setting."""
    own: frozenset[int] = frozenset()
    """Processes of the services."""

    def uri(self, store: str, name: str) -> str:
        """The address of a store of a kind, for the run of this name."""
        return str(self.folder / "stores" / name) if store == "local" else f"s3://{BUCKET}/{name}"

    def environment(self, store: str) -> dict[str, str]:
        """The environment of a run: with `s3-faults` the way to the server leads through the proxy."""
        way = {"AWS_ENDPOINT_URL": self.proxy.endpoint} if store == "s3-faults" else {}
        return self.services.environment() | self.server.environment | {"OLMO_S3_READ_TIMEOUT": str(READ_TIMEOUT)} | way


def write_recipe(folder: Path, max_bytes: int) -> Path:
    """Write the quickstart's texts, fewer of them, to files, and its recipe over these; return the recipe's path.

    Files, because whoever installs a package meanwhile changes the environment, which is the quickstart's input. They
    are to be about eight shards, and as many of tokens.
    """
    data = yaml.safe_load((RECIPES / "quickstart.yaml").read_text(encoding="utf-8"))
    whole = sum(source["read"]["max_bytes"] for source in data["sources"])
    shard_bytes = max(max_bytes // 8, 20_000)
    for source in data["sources"]:
        read = source["read"] | {"max_bytes": source["read"]["max_bytes"] * max_bytes // whole}
        environment = from_mapping(EnvironmentSource, read)
        batches = read_documents(environment, scan(environment))
        lines = [json.dumps({"id": d["id"], "text": d["text"]}) for b in batches for d in b.documents.to_pylist()]
        texts = folder / "sources" / environment.name
        texts.mkdir(parents=True)
        files = 2 * max(1, read["max_bytes"] // shard_bytes)
        for n in range(files):
            (texts / f"{n:02}.jsonl").write_text("\n".join(lines[n::files]) + "\n", encoding="utf-8")
        source["read"] = {
            "kind": "dolma-jsonl",
            "name": environment.name,
            "paths": [f"{texts}/*.jsonl"],
            "priority": environment.priority,
        }
    data |= {"name": "endurance", "shard_bytes": shard_bytes}
    data["tokens"]["shard_tokens"] = max(max_bytes // 16, 10_000)
    path = folder / "endurance.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def write_chain(folder: Path) -> Path:
    """Write a recipe of data-to-model that takes a minute: 120 passages in two sources with a held-out split, sixty steps of a model of
    0.8 million parameters (most of them the embedding: the server keeps its objects in memory), and for each checkpoint a few
    questions and held-out texts.
    """
    texts = passages()[:120]
    for number, name in enumerate(("web/0.jsonl", "web/1.jsonl", "web/2.jsonl", "wiki/0.jsonl.gz")):
        own = enumerate(texts[30 * number : 30 * (number + 1)])
        write_jsonl(folder / "sources" / name, [record(f"{number}-{i}", text) for i, text in own])
    model = {"preset": "tiny", "width": 16, "layers": 2, "heads": 1, "mlp_width": 32}
    recipes = {
        "corpus": small_recipe(folder / "sources", held_out=[{"name": "validation", "fraction": 0.1}]),
        "training": {
            "name": "endurance", "model": model, "tokens": STEPS * 2 * 64, "batch": 2, "data": {"sequence_length": 64},
            "schedule": {"warmup": 10}, "optimizer": {"learning_rate": 0.01, "eps": 1.0e-8}, "precision": "float32",
        },
        "evaluation": {
            "name": "few", "benchmarks": [{"name": "truthfulqa_mc2", "limit": 4}], "stand_in": True,
            "domains": [{"name": "held-out", "corpus": "corpus/none", "tokens": 1500}],
        },
        "chain": {
            "name": "endurance", "corpus": {"recipe": "corpus.yaml"}, "training": {"recipe": "training.yaml"},
            "evaluation": {"recipe": "evaluation.yaml", "checkpoints": "all"},
            "sample": {"prompt": "Permission is", "tokens": 12}, "prices": {"cpu_hour": 1.0},
        },
    }  # fmt: skip
    for name, values in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return folder / "chain.yaml"


def begun(seed: int | None) -> int | None:
    """Say what is begun, and end what was started when told to end; returns the seed (drawn for None), None without an S3 server."""
    if why := missing():
        print(why)
        return None
    drawn = seed if seed is not None else random.SystemRandom().randrange(1 << 31)
    print(f"seed {drawn}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    return drawn


@contextlib.contextmanager
def open_setting(
    folder: Path,
    write: Callable[[Path], Path],
    *,
    seed: int,
    flow: str = "build-dolma",
    words: tuple[str, ...] = (),
) -> Iterator[Setting]:
    """Start everything, and end it with the block; `write` writes the recipe into a folder and returns its path. This process itself
    is a client of the server without the proxy.
    """
    server = S3Server()
    before = dict(os.environ)
    port = free_port()
    extra = server.environment | {"OLMO_S3_READ_TIMEOUT": str(READ_TIMEOUT)}
    with contextlib.ExitStack() as ending:
        ending.callback(_restore, before)
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(server.environment)
        storage_s3.forget()
        (folder / "s3").mkdir(parents=True)
        ending.callback(server.stop)
        server.start(folder / "s3")
        server.client().create_bucket(Bucket=BUCKET)
        proxy = ending.enter_context(FaultProxy(server.endpoint, seed=seed, stall_seconds=READ_TIMEOUT + 1))
        proxy.rates = RATES
        services = Services(
            home=folder / "olmo",
            profiles=folder / "profiles.toml",
            port=port,
            api=ServerApi(port),
            # The worker's own environment is that of the runs it starts: through the proxy.
            extra=extra | {"AWS_ENDPOINT_URL": proxy.endpoint},
        )
        ending.callback(services.olmo, "down", "--grace", "4")
        done(services.olmo("up", "--port", str(port), "--wait", "300", timeout=400))
        setting = Setting(
            folder=folder,
            services=services,
            server=server,
            proxy=proxy,
            recipe=write(folder),
            flow=flow,
            words=words,
            own=frozenset(one.pid for one in processes.carrying(OLMO_HOME=str(services.home))),
        )
        ending.callback(_end, setting.groups)
        yield setting


def _end(groups: set[int]) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _restore(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    storage_s3.forget()
