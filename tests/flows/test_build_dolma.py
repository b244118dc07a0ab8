"""build-dolma through its deployment: a real server, a real worker, runs that are killed for real."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import CORPUS_STAGES, SOURCE_STAGES
from tests.flows.conftest import ROOT, Services, done, eventually, wait_until
from tests.oracles.environment_documents import environment_documents

SHARDS = 12
pytestmark = pytest.mark.timeout(3000)  # several flow runs, each of them with a process of its own
EXPECTED = {f"{s}/web" for s in SOURCE_STAGES} | {f"{s}/all" for s in (*CORPUS_STAGES, "publish")}

RECIPE = """
name: small
shard_bytes: 30000
quarantine_limit: 0.01
content: {{kind: lexicon}}
tokens: {{shard_tokens: 100000}}
sources:
  - read: {{kind: dolma-jsonl, name: web, paths: ["{data}/*.jsonl.gz"], root: "{data}"}}
    rules:
      - {{name: language, column: target_score, drop_if: "<", value: 0.5}}
      - {{name: too_few_words, column: gopher_word_count, drop_if: "<", value: 20}}
      - {{name: personal_data, column: pii_count, drop_if: ">", value: 5}}
"""


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A recipe over JSON lines in a folder, and the store that a test uses for it."""

    recipe: Path
    data: Path
    store: Path


def write_file(path: Path, documents: list[dict[str, str]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(d) + "\n" for d in documents).encode(), mtime=0))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Real prose in as many files as shall be shards: each larger than a shard, so that no two are grouped."""
    data = tmp_path / "data"
    data.mkdir()
    prose = [d.text for d in environment_documents() if d.kind == "prose" and 1000 < len(d.text) < 20000]
    at = 0
    for n in range(SHARDS):
        documents: list[dict[str, str]] = []
        while sum(len(d["text"]) for d in documents) < 40000:
            documents.append({"id": f"{n}-{len(documents)}", "text": prose[at]})
            at += 1
        write_file(data / f"{n:02d}.jsonl.gz", documents)
    recipe = tmp_path / "small.yaml"
    recipe.write_text(RECIPE.format(data=data), encoding="utf-8")
    return Corpus(recipe=recipe, data=data, store=tmp_path / "store")


def parameters(corpus: Corpus, workers: int = 2, **overrides: Any) -> list[str]:
    values = {
        "recipe": str(corpus.recipe),
        "resources": {"store": str(corpus.store), "workers": workers},
        "overrides": overrides,
    }
    return [word for name, value in values.items() for word in ("-p", f"{name}={json.dumps(value)}")]


def run(
    services: Services, corpus: Corpus, workers: int = 2, **overrides: Any
) -> tuple[str, subprocess.CompletedProcess[str]]:
    """Run the deployment to its end by its bare name; return the flow run's id and the command's outcome."""
    words = ("deployment", "run", "build-dolma", "--watch", *parameters(corpus, workers, **overrides))
    process = services.prefect(*words, timeout=1800)
    found = re.search(r"UUID: ([0-9a-f-]{36})", process.stdout)
    assert found, process.stdout + process.stderr
    process.stderr += str(services.run(found.group(1))["state"]["message"])
    return found.group(1), process


def tasks(services: Services, run_id: str) -> dict[str, str]:
    """Names and states of the task runs of a flow run that is over, once `publish/all` or a failed one is known to be."""

    def whole(found: dict[str, str]) -> bool:
        states = set(found.values())
        return ("publish/all" in found and states <= {"Completed", "Reused"}) or (
            "Failed" in states and "Running" not in states
        )

    return eventually(lambda: services.tasks(run_id), whole)


def digests(store: Path) -> dict[str, str]:
    """Every object of every artifact with its sha256."""
    return {f"{m.ref}/{o.key}": o.sha256 for m in ArtifactStore(str(store)).finished() for o in m.objects}


def test_runs_again_in_seconds_and_rebuilds_only_what_follows(running_services: Services, corpus: Corpus) -> None:
    """First run builds every stage; the second reuses every one; another threshold rebuilds selection and what follows."""
    first, process = run(running_services, corpus)
    done(process)
    assert tasks(running_services, first) == dict.fromkeys(EXPECTED, "Completed")
    artifacts = running_services.api.find("artifacts", artifacts={"flow_run_id": {"any_": [first]}})
    by_key = {a["key"]: a["data"] for a in artifacts}
    assert "**near-duplicates/all**" in by_key["waterfall-small"]
    assert "## Examples" in by_key["report-small"] and "content: lexicon" in by_key["report-small"]
    assert "olmo report small --store" in by_key["report-file-small"]
    before = digests(corpus.store)

    second, process = run(running_services, corpus)
    done(process)
    assert {n: s for n, s in tasks(running_services, second).items() if s != "Reused"} == {"publish/all": "Completed"}
    assert digests(corpus.store) == before

    planned = json.loads(
        done(
            running_services.olmo(
                "plan",
                "--recipe",
                str(corpus.recipe),
                "--store",
                str(corpus.store),
                "--language-threshold",
                "0.9",
                "--json",
            )
        )
    )
    said = {p["label"] for p in planned["stages"] if p["action"] == "build"}
    assert said == {"selection/web", *(f"{s}/all" for s in CORPUS_STAGES)}
    third, process = run(running_services, corpus, language_threshold=0.9)
    done(process)
    assert {n for n, s in tasks(running_services, third).items() if s == "Completed"} == said | {"publish/all"}

    write_file(corpus.data / "99.jsonl.gz", [{"id": "new", "text": "One more document, a short one. " * 1500}])
    _, process = run(running_services, corpus)
    done(process)
    store = ArtifactStore(str(corpus.store))
    for stage in ("quality", "pii", "selection"):
        newest = max(store.finished("attributes", f"web-{stage}"), key=lambda m: m.ended)
        own = [o for o in newest.objects if f"/{newest.attempt}/" in o.path]
        assert len(newest.objects) >= SHARDS + 1 and len(own) == len(newest.objects) - len(
            before_keys(before, f"web-{stage}")
        )


@pytest.mark.slow
def test_held_out_splits_and_takedown_have_tasks_and_tags(running_services: Services, corpus: Corpus) -> None:
    """Their stages show under their names, and the split's corpus and tokens are published beside those for training."""
    listed = corpus.recipe.with_name("list.txt")
    listed.write_text("web/0-0\nweb/never\n")
    text = (
        corpus.recipe.read_text()
        + f'held_out: [{{name: validation, fraction: 0.1}}]\ntakedown: {{paths: ["{listed}"]}}\n'
    )
    corpus.recipe.write_text(text)
    run_id, process = run(running_services, corpus)
    done(process)
    more = {"inventory/takedown", "takedown-list/all", "takedown/web", "takedown-copies/web", "splits/all"}
    more |= {f"{stage}/validation" for stage in ("mixing", "tokenization", "packing")}
    assert tasks(running_services, run_id) == dict.fromkeys(EXPECTED | more, "Completed")
    store = ArtifactStore(str(corpus.store))
    for kind in ("corpus", "tokens"):
        held, train = (store.manifest(store.resolve(f"{kind}/{name}@latest")) for name in ("small-validation", "small"))
        assert (held.recipe["split"], train.recipe["split"]) == ("validation", "train")
        assert held.ledger.kept.documents > 0 and train.ledger.kept.documents > 0
    shown = done(running_services.olmo("waterfall", "small", "--store", str(corpus.store)))
    assert "held out: validation" in shown and "takedown" in shown and "packing/validation" in shown
    told = done(running_services.olmo("explain", "0-0", "--corpus", "small", "--store", str(corpus.store)))
    assert "web/0-0: taken down: listed as web/0-0" in told
    words = ("run", "build-dolma", "--recipe", str(corpus.recipe), "--store", str(corpus.store))
    wrong = running_services.olmo(*words, "--rebuild", "mixing/test")
    assert wrong.returncode == 1 and "names no source; they are takedown, all, web, validation" in wrong.stderr


def before_keys(before: dict[str, str], name: str) -> set[str]:
    return {path.rsplit("/", 1)[1] for path in before if path.split("/")[1] == name}


def flow_process(run_id: str) -> int:
    """The process that executes a flow run, found by the environment the worker gave it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                own = f"PREFECT__FLOW_RUN_ID={run_id}".encode() in (entry / "environ").read_bytes().split(b"\0")
                command = (entry / "cmdline").read_bytes()
                if own and b"prefect" in command and b"forkserver" not in command:
                    return int(entry.name)
            except OSError:
                continue
    raise LookupError(run_id)


def killed(services: Services, corpus: Corpus, workers: int) -> tuple[str, Path]:
    """Kill a run when some shards of a stage are done; return its id, once it is Crashed, and the stage's folder."""
    created = done(services.prefect("deployment", "run", "build-dolma", *parameters(corpus, workers)))
    run_id = re.search(r"UUID: ([0-9a-f-]{36})", created).group(1)  # type: ignore[union-attr]
    pid = wait_until(lambda: _quietly(flow_process, run_id), seconds=600, what="the run's process", pause=0.05)
    quality = corpus.store / "attributes" / "web-quality"
    wait_until(lambda: len(list(quality.rglob("*.done.json"))) >= 3, seconds=900, what="three shards", pause=0.001)
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: services.run(run_id)["state_name"] == "Crashed", seconds=300, what="the crash on record", pause=0.2
    )
    return run_id, quality


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_run_is_retried_where_it_was(
    running_services: Services, corpus: Corpus, tmp_path: Path, workers: int
) -> None:
    """SIGKILL after some shards of a stage, then `prefect flow-run retry`: those shards stay, the bytes are the same."""
    for n in range(5):
        corpus = replace(corpus, store=tmp_path / f"store-{n}")
        run_id, quality = killed(running_services, corpus, workers)
        if len(list(quality.rglob("*.done.json"))) < SHARDS:
            break
    else:
        pytest.fail("killed too late, five times: the stage was already done")
    # The worker learns of the process's end some ten seconds after its runner, and tells nobody: a retry before that is
    # called crashed by it and loses its concurrency slot (prefect 3.8.8). There is nothing to ask, so this is a wait.
    noticed = time.monotonic() + 20
    wait_until(lambda: time.monotonic() > noticed, seconds=300, what="twenty seconds", pause=0.5)
    finished = {p: p.stat().st_mtime_ns for p in quality.rglob("*.done.json")}
    kept = {p.with_name(p.name.replace(".done.json", ".parquet")): None for p in finished}
    kept = {p: p.stat().st_mtime_ns for p in kept}
    assert 3 <= len(finished) < SHARDS and not list(quality.rglob("manifest.json"))

    done(running_services.prefect("flow-run", "retry", run_id))
    wait_until(
        lambda: running_services.run(run_id)["state_type"] in ("COMPLETED", "FAILED"),
        seconds=1200,
        what="the retried run's end",
        pause=0.5,
    )
    assert running_services.run(run_id)["state_name"] == "Completed"
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    manifest = next(ArtifactStore(str(corpus.store)).finished("attributes", "web-quality"))
    assert {p.relative_to(corpus.store).as_posix() for p in kept} <= {o.path for o in manifest.objects}

    undisturbed = Corpus(recipe=corpus.recipe, data=corpus.data, store=tmp_path / "undisturbed")
    _, process = run(running_services, undisturbed, 2)
    done(process)
    assert digests(corpus.store) == digests(undisturbed.store)


def _quietly(function: Callable[[str], int], argument: str) -> int | None:
    try:
        return function(argument)
    except LookupError:
        return None


def test_failed_stage_fails_the_run_and_publishes_nothing(running_services: Services, corpus: Corpus) -> None:
    """A truncated file: the command tells it, the stage is Failed, what follows never starts."""
    victim = corpus.data / "03.jsonl.gz"
    victim.write_bytes(victim.read_bytes()[:-200])
    run_id, process = run(running_services, corpus)
    assert process.returncode == 1
    state = running_services.run(run_id)["state"]
    assert state["type"] == "FAILED" and "03.jsonl.gz" in state["message"]
    found = tasks(running_services, run_id)
    assert found["documents/web"] == "Failed" and found["inventory/web"] == "Completed"
    assert not {s for n, s in found.items() if n not in ("documents/web", "inventory/web")} & {"Completed", "Reused"}
    assert not list((corpus.store / "documents").rglob("manifest.json"))


def test_same_run_twice_at_once_gives_one_of_everything(running_services: Services, corpus: Corpus) -> None:
    """Two processes, one store: both succeed, there is one manifest at each address, and the store verifies."""
    command = [
        sys.executable,
        "-m",
        "flows.command.main",
        "run",
        "build-dolma",
        "--recipe",
        str(corpus.recipe),
        "--store",
        str(corpus.store),
        "--json",
    ]
    both = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=running_services.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    outcomes = [process.communicate(timeout=1800) for process in both]
    assert [process.returncode for process in both] == [0, 0], outcomes
    made = [json.loads(out) for out, _ in outcomes]
    assert made[0]["tokens"] == made[1]["tokens"]
    verified = json.loads(done(running_services.olmo("artifacts", "verify", "--store", str(corpus.store), "--json")))
    assert verified["damaged"] == {} and verified["verified"] == len(SOURCE_STAGES) + len(CORPUS_STAGES)
