"""train-olmo through its deployments: a real server, real workers, a real trainer, all of them killed for real."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from flows.command.main import main
from flows.command.run_training import told_what_is_saved
from olmo_core import processes
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.train.checkpoint_read import load_model
from olmo_core.train.overrides import TrainOverrides
from olmo_core.train.preemption import Preemption
from olmo_core.train.run_artifact import merged_events, merged_metrics
from olmo_core.train.run_file import PREEMPTED, RunFile, TrainResources, read_run_file
from olmo_core.train.run_record import checkpoints
from olmo_core.train.session import train
from tasks.launch.torchrun import MARK
from tasks.training import AUTO, TrainingResources, resolve
from tests.flows.conftest import Services, done, eventually, kill_at_once, standing_still, wait_until
from tests.train.tiny_run import text
from tests.train.token_artifacts import tokens_artifact

pytestmark = [pytest.mark.timeout(3000), pytest.mark.slow]
LENGTH, BATCH, EVERY = 64, 4, 100
STEPS = 3000
"""Many more than are done from one checkpoint to the next, while the test looks."""
CPU = TrainResources(device="cpu", evaluate_batches=2)


@dataclass(frozen=True, kw_only=True)
class Toy:
    """A recipe of a model that trains in milliseconds a step, and a store with tokens for it."""

    recipe: Path
    store: ArtifactStore

    @property
    def words(self) -> tuple[str, ...]:
        """Options of `olmo run train-olmo`."""
        return ("--recipe", str(self.recipe), "--store", self.store.uri, "--tokens", "tokens/toy")

    def parameters(self, budget: int) -> list[str]:
        values = {
            "recipe": str(self.recipe),
            "tokens": "tokens/toy",
            "overrides": {"budget": budget},
            "resources": {
                "store": self.store.uri,
                "threads": 1,
                "trainer": {"device": "cpu", "save_every": EVERY, "evaluate_batches": 2, "save_seconds": 20.0},
            },
        }
        return [word for name, value in values.items() for word in ("-p", f"{name}={json.dumps(value)}")]

    def run(self) -> RunFile:
        """The one run of this store."""
        (path,) = Path(self.store.uri).glob("run/toy/*/run.json")
        return read_run_file(path)

    def saved(self) -> int:
        """The last step of which there is a checkpoint; 0 for none."""
        steps = [
            int(json.loads(one.read_text())["recipe"]["step"])
            for one in (Path(self.store.uri) / "checkpoint" / "toy").glob("*/manifest.json")
        ]
        return max(steps, default=0)


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """Sixty different tokens, each with four likely followers; a held-out split of the same."""
    store = ArtifactStore(str(tmp_path / "store"))
    for name, split, count, seed in (("toy", "train", 200_000, 0), ("toy-validation", "validation", 4_000, 1)):
        store.tag(tokens_artifact(store, [text(count, seed=seed)], name=name, split=split).ref, "latest")
    model = {
        "width": 32, "layers": 2, "heads": 2, "mlp_width": 64, "vocabulary": 61, "embedding_rows": 64, "context": LENGTH,
        "tied": True, "end_of_text_id": 60,
    }  # fmt: skip
    recipe = {
        "name": "toy", "model": model, "tokens": 1000 * BATCH * LENGTH, "batch": BATCH, "precision": "float32",
        "data": {"sequence_length": LENGTH}, "optimizer": {"learning_rate": 0.01}, "schedule": {"warmup": 10},
    }  # fmt: skip
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return Toy(recipe=path, store=store)


def start(services: Services, toy: Toy, steps: int) -> str:
    """Start the deployment; returns the flow run's id."""
    words = ("deployment", "run", "train-olmo/tiny", *toy.parameters(steps * BATCH * LENGTH))
    found = re.search(r"UUID: ([0-9a-f-]{36})", done(services.prefect(*words)))
    assert found
    return found.group(1)


def child_of(services: Services, parent: str) -> dict[str, Any]:
    """The train-job run of a train-olmo run."""
    found = services.api.find("flow_runs", flow_runs={"parent_flow_run_id": {"any_": [parent]}})
    (child,) = found
    return child


def ended(services: Services, run_id: str, seconds: float = 1200) -> dict[str, Any]:
    """The state of a flow run once it is over."""
    over = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    wait_until(lambda: services.run(run_id)["state_type"] in over, seconds=seconds, what="the flow run to end")
    state: dict[str, Any] = services.run(run_id)["state"]
    return state


def cancelled(services: Services, run_id: str) -> str:
    """The state of a flow run that is cancelled. On a busy machine Prefect calls it crashed first: its process has a second to answer."""
    return eventually(lambda: str(services.run(run_id)["state_type"]), lambda found: found == "CANCELLED", seconds=1200)


def job_processes(toy: Toy) -> list[processes.ProcessRecord]:
    """Everything that belongs to a trainer of this test."""
    names = {json.loads(one.read_text())["name"] for one in Path(toy.store.uri).glob("run/toy/*/jobs/*.json")}
    return [one for name in names for one in processes.carrying(**{MARK: name})]


def leads(one: processes.ProcessRecord) -> bool:
    """Whether a process leads its session, as that of a flow run does."""
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(one.pid) == one.pid
    return False


def artifacts(services: Services, run_id: str) -> dict[str, str]:
    found = services.api.find("artifacts", artifacts={"flow_run_id": {"any_": [run_id]}})
    shown = [one for one in found if one["key"]]  # Prefect keeps results, such as exceptions, as artifacts without one
    keys = [one["key"] for one in shown]
    assert len(keys) == len(set(keys)), "one of each, however often they were updated and the run was retried"
    return {one["key"]: str(one["data"]) for one in shown}


def next_checkpoint(toy: Toy) -> None:
    """Wait until there is one more than now."""
    before = toy.saved()
    wait_until(lambda: toy.saved() > before, seconds=1200, what="a later checkpoint", pause=0.02)


def test_a_run_is_preempted_cancelled_killed_and_retried_and_the_second_is_reused(
    running_services: Services, toy: Toy
) -> None:
    """One run through all of it. SIGTERM of its job by somebody else: started again at once. Cancelled: parent and child are, and
    the checkpoint loads. SIGKILL of the trainer, SIGKILL of train-job's flow process, each with a retry: every step once.
    """
    parent = start(running_services, toy, STEPS)
    wait_until(lambda: toy.saved() >= EVERY, seconds=1200, what="a checkpoint", pause=0.02)
    (first,) = Path(toy.store.uri).glob("run/toy/*/jobs/000001.json")
    job = json.loads(first.read_text())
    os.kill(job["id"]["pid"], signal.SIGTERM)
    wait_until(first.with_name("000002.json").exists, seconds=1200, what="the second job", pause=0.02)
    last_lines = Path(job["log"]).read_text().splitlines()[-2:]
    assert last_lines[0].startswith("preempted: SIGTERM: saved step ") and "the run goes on from there" in last_lines[1]
    next_checkpoint(toy)
    with standing_still(job_processes(toy)):  # the command may take as long to start as the run takes in all
        done(running_services.prefect("flow-run", "cancel", parent))
    child = child_of(running_services, parent)["id"]
    for one in (parent, child):
        assert cancelled(running_services, one) == "CANCELLED"
    run = toy.run()
    tasks = eventually(lambda: running_services.tasks(child), lambda found: found.get("job/1") == "Preempted")
    assert tasks["job/1"] == "Preempted"
    told = [event for event in merged_events(toy.store, run) if event["kind"] == "preempted"][1]
    last = checkpoints(toy.store, run.ref)[-1]
    assert int(last.recipe["step"]) == told["step"] == toy.saved() < STEPS
    assert job_processes(toy) == []
    assert sum(one.numel() for one in load_model(toy.store, last.ref, "cpu").parameters()) > 0

    done(running_services.prefect("flow-run", "retry", parent))
    next_checkpoint(toy)
    kill_at_once(job_processes(toy))
    state = ended(running_services, parent)
    assert state["type"] == "FAILED"
    for word in ("was killed (no exit code)", "a retry goes on from its last checkpoint, step ", "Last lines:"):
        assert word in state["message"], state["message"]
    assert running_services.run(child)["state_type"] == "FAILED"

    done(running_services.prefect("flow-run", "retry", parent))
    next_checkpoint(toy)
    (flow,) = [one for one in processes.carrying(PREFECT__FLOW_RUN_ID=child) if leads(one)]
    kill_at_once([flow])
    assert ended(running_services, parent)["type"] == "FAILED"
    watched = running_services.olmo("watch", parent)
    assert watched.returncode == 1 and f"`prefect flow-run retry {parent}` goes on" in watched.stdout, watched
    assert running_services.run(child)["state_type"] == "CRASHED"
    done(running_services.prefect("flow-run", "retry", parent))
    assert ended(running_services, parent)["type"] == "COMPLETED", running_services.run(parent)["state"]
    assert child_of(running_services, parent)["id"] == child, "the same child, retried"

    assert toy.store.manifest(run.ref).counts["steps"] == STEPS
    lines = merged_metrics(toy.store, run).values()
    assert [line["step"] for line in lines if line.get("loss") is not None] == list(range(1, STEPS + 1))
    kinds = [event["kind"] for event in merged_events(toy.store, run)]
    assert kinds == ["started", "preempted", "resumed", "preempted", "resumed", "resumed"]
    assert len(list((Path(toy.store.uri) / run.ref.address / "jobs").iterdir())) == 4, "the flow found its job again"
    assert toy.store.resolve("run/toy@latest") == run.ref

    shown = artifacts(running_services, parent)
    assert set(shown) == {"progress-toy-training", "curve-toy", "run-toy"}
    assert "data:image/png;base64," in shown["curve-toy"] and float(shown["progress-toy-training"]) == 100.0
    card = shown["run-toy"]
    # No better: the text is a chain of pairs, and a bigram model of it is as good as any.
    for word in (
        " than the bigram model",
        f"{STEPS:,} steps",
        "resumed: 3",
        "olmo generate toy --prompt",
        f"step{STEPS}-tokens0B",
    ):
        assert word in card
    assert set(artifacts(running_services, child)) == {"progress-toy-training", "curve-toy"}
    # As after a kill, when the job has ended by the time of the retry, which may have been so above.
    code = (
        "from tasks.training_view import complete, draw, put;"
        "from olmo_core.artifacts.store import ArtifactStore; from olmo_core.train.run_record import RunRecord, run_file;"
        f"store = ArtifactStore({toy.store.uri!r}); ref = store.resolve('run/toy@latest'); run = run_file(store, ref);"
        f"put('progress', 'progress-toy-training', 16.0, 'as a killed flow run left it', [{parent!r}]);"
        "record = RunRecord(store=store, run=ref); record.refresh(); complete(record, run, draw(record, run))"
    )
    environment = running_services.client() | {"PREFECT__FLOW_RUN_ID": parent}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert float(artifacts(running_services, parent)["progress-toy-training"]) == 100.0

    again = start(running_services, toy, STEPS)
    first, *_, last = done(running_services.olmo("watch")).splitlines()  # of all runs the one that started last
    assert first.startswith("train-olmo/tiny  "), first
    assert first.endswith(f"{again}  http://127.0.0.1:{running_services.port}/v2/runs/flow-run/{again}"), first
    assert ": Completed" in last, last
    said = f"publish/toy: reused {run.ref}; nothing was trained, the run was there already"
    assert said in eventually(lambda: running_services.logged(again), lambda found: said in found)
    assert f"  train-olmo/tiny  {running_services.run(again)['name']}  {again}" in done(running_services.olmo("status"))
    assert ended(running_services, again)["type"] == "COMPLETED"
    expected = {"prepare/toy": "Reused", "publish/toy": "Completed"}
    assert eventually(lambda: running_services.tasks(again), lambda found: found == expected) == expected
    assert not running_services.api.find("flow_runs", flow_runs={"parent_flow_run_id": {"any_": [again]}})
    assert set(artifacts(running_services, again)) == {"run-toy"}, "nothing was trained: no progress"


def test_a_run_without_a_deployment_goes_on_from_what_another_has_saved(running_services: Services, toy: Toy) -> None:
    """`olmo run`, after a trainer that was told to end."""
    steps = 2 * EVERY
    overrides, resources = TrainOverrides(budget=steps * BATCH * LENGTH), TrainingResources(trainer=CPU)
    run, _ = resolve(toy.store, str(toy.recipe), "tokens/toy", AUTO, None, overrides, resources)
    told = Preemption()

    def hook(step: int, index: int, loss: torch.Tensor) -> torch.Tensor:
        if step == EVERY:
            told._note(signal.SIGTERM, None)
        return loss

    assert train(run, told, hook=hook) == PREEMPTED
    saved = toy.store.manifest(run.checkpoint(EVERY))
    words = ("--budget", str(steps * BATCH * LENGTH), "--device", "cpu", "--threads", "1", "--json")
    with (
        pytest.raises(KeyboardInterrupt, match=rf"{saved.ref}, step {EVERY} of {steps}, is saved"),
        told_what_is_saved(run),
    ):
        raise KeyboardInterrupt
    made = json.loads(done(running_services.olmo("run", "train-olmo", *toy.words, *words, timeout=1800)))
    assert made["run"] == str(run.ref) and toy.store.manifest(run.ref).counts["steps"] == steps
    assert [event["kind"] for event in merged_events(toy.store, run)] == ["started", "preempted", "resumed"]
    assert len(list((Path(toy.store.uri) / run.ref.address / "jobs").iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--recipe", "nothing"), "no training recipe 'nothing'; there are: 150m, 1b"),
        (("--tokens", "tokens/none"), "tokens: there is no tokens/none"),
        (("--tokens", "checkpoint/toy"), "tokens: there is no checkpoint/toy"),
        (("--tokens", "tokens/toy-validation"), "held-out split 'validation': nothing may be trained on it"),
        (("--held-out", "tokens/none"), "held_out: there is no tokens/none"),
        (("--start", "checkpoint/none"), "start: there is no checkpoint/none"),
        (("--budget", "3"), "tokens: 3 is less than one step"),
        (("--batch", "5", "--processes", "2"), "batch: 5 instances cannot be shared by 2 ranks"),
        (("--sequence-length", "128"), "data.sequence_length: 128 is longer than model.context"),
        (("--batch", "4000", "--budget", "1000000"), "fewer than one batch of 4000"),
    ],
)
def test_wrong_parameters_name_the_field_before_anything_starts(
    toy: Toy, words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, one line, nothing in the store, no server asked."""
    assert main(["run", "train-olmo", *toy.words, *words]) == 1
    assert said in capsys.readouterr().err
    assert not (Path(toy.store.uri) / "run").exists()


def test_plan_says_what_a_run_would_be(toy: Toy, capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers, and nothing is written."""
    assert main(["run", "train-olmo", *toy.words, "--plan", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["steps"], found["tokens_per_step"], found["action"]) == (1000, BATCH * LENGTH, "train")
    assert found["epochs"] == pytest.approx(1000 / (200_000 // LENGTH // BATCH))
    assert found["held_out"].startswith("tokens/toy-validation/")
    assert main(["run", "train-olmo", *toy.words, "--plan"]) == 0
    assert "1,000 of 4 instances, 256 tokens" in capsys.readouterr().out
    assert not (Path(toy.store.uri) / "run").exists()
