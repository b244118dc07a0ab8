"""A very small run on made-up text, and ways to train it: in this process, or as real ranks under torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.model.config import ModelRecipe
from olmo_core.train.recipe import DataRecipe, OptimizerRecipe, ScheduleRecipe, TrainRecipe
from olmo_core.train.recording import Line, read_metrics
from olmo_core.train.run_artifact import merged_events
from olmo_core.train.run_file import RunFile, TrainResources
from tests.ports import free_port
from tests.train.token_artifacts import tokens_artifact

LENGTH, BATCH = 16, 8
MODEL = ModelRecipe(
    width=32,
    layers=2,
    heads=2,
    mlp_width=48,
    vocabulary=61,
    embedding_rows=64,
    context=LENGTH,
    tied=True,
    end_of_text_id=60,
)
ROOT = Path(__file__).resolve().parents[2]


def text(count: int, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Tokens of a chain in which each has four likely followers: something to learn."""
    draws = np.random.default_rng(seed)
    followers = np.random.default_rng(1).integers(0, 60, (60, 4))
    found = np.zeros(count, np.uint16)
    for i in range(1, count):
        found[i] = followers[found[i - 1], draws.integers(4)] if draws.random() < 0.9 else draws.integers(60)
    return found


def tiny_run(folder: Path, *, steps: int = 20, held_out: bool = False, **changes: Any) -> RunFile:
    """A run over a store in `folder`; changes are fields of the recipe, the optimizer, the schedule, the data or the resources."""
    store = ArtifactStore(str(folder / "store"))
    tokens = tokens_artifact(store, [text(LENGTH * 300 + 5), text(LENGTH * 60, seed=3)])
    held = tokens_artifact(store, [text(LENGTH * 21, seed=2)], name="toy-validation", split="validation").ref
    kinds = {"optimizer": OptimizerRecipe, "schedule": ScheduleRecipe, "data": DataRecipe, "resources": TrainResources}
    found: dict[str, dict[str, Any]] = {
        "optimizer": {"learning_rate": 0.01},
        "schedule": {"warmup": 4},
        "data": {"sequence_length": LENGTH},
        "resources": {"device": "cpu", "save_every": 10, "hang_seconds": 60.0, "cache": str(folder / "cache")},
        "recipe": {"name": "toy", "model": MODEL, "batch": BATCH, "precision": "float32"},
        "run": {"held_out": held if held_out else None},
    }
    for key, value in changes.items():
        place = next((name for name, kind in kinds.items() if key in kind.__dataclass_fields__), None)
        found[place or ("run" if key in RunFile.__dataclass_fields__ else "recipe")][key] = value
    found["recipe"]["tokens"] = steps * LENGTH * found["recipe"]["batch"]
    made = {name: kind(**found[name]) for name, kind in kinds.items()}
    resources = made.pop("resources")
    return RunFile(
        store=store.uri,
        tokens=tokens.ref,
        recipe=TrainRecipe(**found["recipe"], **made),
        resources=resources,
        **found["run"],
    )


class Job:
    """A trainer under torchrun, as real ranks; its output is watched line by line."""

    def __init__(
        self,
        run: RunFile,
        folder: Path,
        ranks: int,
        *,
        module: str = "olmo_core.train",
        arguments: tuple[str, ...] = (),
        gpus: bool = False,
    ) -> None:
        path = folder / "RUN.json"
        path.write_text(run.to_json(), encoding="utf-8")
        command = [sys.executable, "-m"]
        if ranks:  # 0: alone, without torchrun
            command += ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        if not gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        self.process = subprocess.Popen(
            [*command, module, str(path), *arguments],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()
        with self._news:
            self.lines.append("")
            self._news.notify_all()

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return "".join(self.lines)

    def await_line(self, fits: Callable[[str], bool], seconds: float = 600.0) -> None:
        """Wait until it has printed a line that fits."""
        with self._news:
            good = self._news.wait_for(lambda: any(map(fits, self.lines)) or self.lines[-1:] == [""], seconds)
        assert good and any(map(fits, self.lines)), self.output

    def wait(self, seconds: float = 600.0) -> int:
        """Return its exit code; everything of it is gone then."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.output}") from None
        finally:
            self.kill()
            self._reader.join(60)

    def kill(self) -> None:
        """Kill what is left of it, ranks included."""
        ranks = self.ranks()
        for pid in (self.process.pid, *ranks.values()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(30)

    def ranks(self) -> dict[int, int]:
        """Process ids by rank."""
        found = {}
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for word in children.read_text().split() if children.exists() else []:
            try:
                environment = Path(f"/proc/{word}/environ").read_bytes().split(b"\0")
            except OSError:
                continue
            found |= {int(one[5:]): int(word) for one in environment if one.startswith(b"RANK=")}
        return found


class Ranks:
    """The trainer as ranks that this process starts itself, as Slurm does: each has an exit code of its own."""

    def __init__(
        self, run: RunFile, folder: Path, size: int, *, module: str = "olmo_core.train", arguments: tuple[str, ...] = ()
    ) -> None:
        path = folder / "RUN.json"
        path.write_text(run.to_json(), encoding="utf-8")
        port = str(free_port())
        self.output = ""
        self._log = folder / "ranks.log"
        self._processes = []
        with open(self._log, "wb") as log:
            for rank in range(size):
                own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
                meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
                self._processes.append(
                    subprocess.Popen(
                        [sys.executable, "-m", module, str(path), *arguments],
                        cwd=ROOT,
                        env={**os.environ, **own, **meeting, "CUDA_VISIBLE_DEVICES": ""},
                        stderr=subprocess.STDOUT,
                        stdout=log,
                    )
                )

    def wait(self, seconds: float = 600.0) -> list[int]:
        """Return the exit code of each rank."""
        try:
            return [one.wait(seconds) for one in self._processes]
        finally:
            for one in self._processes:
                one.kill()
                one.wait(30)
            self.output = self._log.read_text(errors="replace")


def metrics(run: RunFile) -> dict[int, Line]:
    """The lines of a run that count, by step."""
    return {line["step"]: line for line in read_metrics(ArtifactStore(run.store), run.ref)[1]}


def events(run: RunFile) -> list[Line]:
    """The events of a run."""
    return merged_events(ArtifactStore(run.store), run)


def with_resources(run: RunFile, **changes: Any) -> RunFile:
    """The same run with other resources."""
    return RunFile(**{**run.__dict__, "resources": TrainResources(**{**run.resources.__dict__, **changes})})


def as_json(run: RunFile) -> Any:
    """RUN.json's values."""
    return json.loads(run.to_json())
