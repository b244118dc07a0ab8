"""Scoring of benchmarks beside lm-eval's `hf` model: same weights, same questions, log-likelihoods compared before times count.

Core: the nine core benchmarks without examples, a sample of each; ours at its default batch, lm-eval at each of its batch
sizes, of which the fastest counts. Examples: MMLU with five, by our engine with shared beginnings and without, against the
bound that the token counts set. Fresh processes on one core, one thread, in turn; the figure is CPU time.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT
from benchmarks.measuring import ONE_THREAD, MeasurementFailed

OURS, PEER = "olmo-flows", "lm-eval"
CLOSE = 1e-4
"""Largest difference of log-likelihoods, for each token of a continuation at most."""
TIMEOUT = 3600.0


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What is measured."""

    model: str = "20m"
    """A preset of ours, with random weights."""
    items: int = 20
    """Of each core benchmark."""
    peer_batches: tuple[int, ...] = (1, 4, 16)
    """Sizes of lm-eval's batches, the best of which counts; 64 took twice as long as 16, and 13 GB."""
    subjects: int = 2
    """Of MMLU."""
    questions: int = 40
    """Of each subject."""
    unshared: int = 4
    """Questions that are scored without sharing: it takes some twenty times as long."""


QUICK = Scoring(items=3, peer_batches=(4,), subjects=1, questions=12, unshared=2)


def measure_scoring(what: Scoring, work: Path, runs: int, core: int | None, peer: Path | None) -> dict[str, Any]:
    """Return times of both systems, and of ours with and without shared beginnings. Raises MeasurementFailed where numbers differ.

    `peer`: the interpreter of lm-eval's environment; None leaves it out.
    """
    folder = work / "scoring"
    folder.mkdir(exist_ok=True)
    prepare(what, folder)
    commands = {
        OURS: ours(folder, "core"),
        "shared": ours(folder, "examples"),
        "unshared": ours(folder, "few", "--apart"),
    }
    if peer is not None:
        commands |= {f"{PEER} {size}": theirs(folder, peer, size) for size in what.peer_batches}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            found[name].append(_run(name, command, core))
    for name, results in found.items():
        if name.startswith(PEER):
            require_equal_scores(found[OURS][0], results[0])
    return summary(what, found)


def prepare(what: Scoring, folder: Path) -> None:
    """Write the model and the pairs of context and continuation."""
    import torch

    from olmo_core import assets
    from olmo_core.evaluation.benchmarks import mmlu
    from olmo_core.evaluation.benchmarks.definitions import CORE, find
    from olmo_core.evaluation.benchmarks.loading import load
    from olmo_core.evaluation.items import Item, Selection
    from olmo_core.model.config import preset
    from olmo_core.model.hugging_face import model_source
    from olmo_core.model.hugging_face_files import write_configuration, write_tokenizer, write_weights
    from olmo_core.model.hugging_face_names import to_hugging_face
    from olmo_core.model.initialization import initialize
    from olmo_core.model.transformer import Transformer

    model_folder = folder / "model"
    if not model_folder.exists():
        recipe = preset(what.model)
        model = Transformer(recipe)
        initialize(model, 0)
        model_folder.mkdir()
        write_weights(model_folder, to_hugging_face(recipe, model_source(model)), torch.float32)
        write_configuration(model_folder, recipe, torch.float32)
        write_tokenizer(model_folder, assets.fetch("olmo-tokenizer"), recipe)

    def write(name: str, items: list[Item]) -> None:
        pairs = [(item.context(i), choice) for item in items for i, choice in enumerate(item.choices)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")

    write("core", [item for name in CORE for item in load(find(name), Selection(limit=what.items)).items])
    questions = load(find("mmlu")).items
    chosen = mmlu.SUBJECTS[10 : 10 + what.subjects]
    by_subject = [[item for item in questions if item.cluster == name][: what.questions] for name in chosen]
    write("examples", [item for some in by_subject for item in some])
    write("few", [item for some in by_subject for item in some[:: max(1, what.subjects * len(some) // what.unshared)]])


def ours(folder: Path, name: str, *more: str) -> list[str]:
    """Return the command of our process."""
    command = [sys.executable, "-m", "benchmarks.ours_scoring", "--model", str(folder / "model")]
    return [*command, "--pairs", str(folder / f"{name}.jsonl"), *more]


def theirs(folder: Path, python: Path, batch: int) -> list[str]:
    """Return the command of the peer's process."""
    command = [str(python), str(ROOT / "benchmarks" / "peer_lm_eval.py"), "--model", str(folder / "model")]
    return [*command, "--pairs", str(folder / "core.jsonl"), "--batch", str(batch)]


def require_equal_scores(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise MeasurementFailed where log-likelihoods differ: then the systems do not compute the same."""
    pairs = zip(ours["log_likelihoods"], theirs["log_likelihoods"], ours["tokens_of_targets"], strict=True)
    for number, (mine, other, tokens) in enumerate(pairs):
        if not abs(mine - other) <= CLOSE * max(1, tokens):
            raise MeasurementFailed(f"scoring: request {number} has {mine} with us, {other} with the peer")


def summary(what: Scoring, found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return medians over the runs, requests a second, how they compare, and how near the bound shared beginnings come."""
    systems = {}
    for name, runs in found.items():
        cpu, wall = (statistics.median(run[key] for run in runs) for key in ("cpu_seconds", "seconds"))
        requests = runs[0]["requests"]
        systems[name] = {
            "requests": requests,
            "tokens": runs[0].get("tokens"),
            "tokens_unshared": runs[0].get("tokens_unshared"),
            "cpu_seconds": cpu,
            "seconds": wall,
            "requests_per_cpu_second": requests / cpu,
            "peak_memory_bytes": max(run["peak_memory_bytes"] for run in runs),
            "runs": [
                {k: v for k, v in run.items() if k not in ("log_likelihoods", "tokens_of_targets")} for run in runs
            ],
        }
    peers = [name for name in systems if name.startswith(PEER)]
    best = min(peers, key=lambda name: float(systems[name]["cpu_seconds"]), default=None)
    shared, unshared = systems["shared"], systems["unshared"]
    bound = shared["tokens_unshared"] / shared["tokens"]
    # What all questions would take without sharing, by what some of them took for each of their tokens.
    apart = unshared["cpu_seconds"] / unshared["tokens"] * shared["tokens_unshared"]
    return {
        **what.__dict__,
        "systems": systems,
        "peer": best,
        "cpu_ratio": systems[best]["cpu_seconds"] / systems[OURS]["cpu_seconds"] if best else None,
        "wall_ratio": systems[best]["seconds"] / systems[OURS]["seconds"] if best else None,
        "bound": bound,
        "sharing": apart / shared["cpu_seconds"],
        "of_bound": apart / shared["cpu_seconds"] / bound,
        "agreement": f"{systems[OURS]['requests']} log-likelihoods equal to {CLOSE:g} a token" if best else None,
    }


def bars(result: dict[str, Any]) -> list[tuple[str, float, bool]]:
    """Return names, requests a second of CPU time, and whether it is ours, of what was measured; nothing of nothing."""
    systems = result.get("systems", {})
    return [(_name(one), float(values["requests_per_cpu_second"]), PEER not in one) for one, values in systems.items()]


def _name(system: str) -> str:
    return _NAMES.get(system) or f"nine core, lm-eval, batches of {system.split()[-1]}"


_NAMES = {
    OURS: "nine core, olmo-flows",
    "shared": "MMLU 5-shot, olmo-flows",
    "unshared": "MMLU 5-shot, nothing shared",
}


def markdown(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table with a line on shared beginnings."""
    lines = ["| scoring | requests | CPU s | requests/s of CPU | peak memory, GB |", "| --- | --: | --: | --: | --: |"]
    for system, values in result["systems"].items():
        name = _name(system)
        speed, memory = values["requests_per_cpu_second"], values["peak_memory_bytes"] / 1e9
        lines.append(f"| {name} | {values['requests']} | {values['cpu_seconds']:.2f} | {speed:.1f} | {memory:.2f} |")
    lines.append("")
    if result["peer"]:
        lines.append(
            f"{result['model']}, {result['agreement']}. On the nine ours is {result['cpu_ratio']:.1f} x as fast as lm-eval at its "
            f"best by CPU time ({result['wall_ratio']:.1f} x by wall)."
        )
    lines.append(
        f"Sharing on MMLU: {result['sharing']:.1f} x, {100 * result['of_bound']:.0f}% of the {result['bound']:.1f} x that the "
        f"tokens allow."
    )
    return "\n".join(lines) + "\n"


def _run(name: str, command: list[str], core: int | None) -> dict[str, Any]:
    def pin() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})

    environment = {**os.environ, **ONE_THREAD, "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT, preexec_fn=pin
    )
    if done.returncode:
        raise MeasurementFailed(f"scoring, {name}: {' / '.join((done.stdout + done.stderr).strip().splitlines()[-4:])}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result
