"""Runs the measured processes: a fresh one each time, on one core, with one thread in every library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.environments import ROOT
from benchmarks.inputs import Input
from olmo_core import assets

ONE_THREAD = {
    "NUMBA_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
TIMEOUT = 600.0
"""Seconds after which a process is given up."""
SCRIPTS = {"dolma": "peer_dolma.py", "datatrove": "peer_datatrove.py", "libraries": "peer_libraries.py"}


class MeasurementFailed(Exception):
    """A measured process ended with an error."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where the processes run."""

    work: Path
    """Folder for inputs, outputs and scratch files."""
    pythons: Mapping[str, Path]
    """Interpreter by peer."""
    core: int | None
    """The core all processes are pinned to; None where the system cannot pin."""
    numba_cache: Path | None
    """Folder of compiled kernels; None for the installation's own."""

    def command(self, case: Case, given: Input, scratch: str, outputs: Path | None) -> list[str]:
        """Return the command of one process."""
        if case.worker in SCRIPTS:
            python = self.pythons.get(case.worker, Path(sys.executable))
            command = [str(python), str(ROOT / "benchmarks" / SCRIPTS[case.worker])]
        else:
            command = [sys.executable, "-m", "benchmarks.ours_chain" if case.worker == "chain" else "benchmarks.ours"]
        command += ["--stage", case.stage, "--input", str(given.path), "--scratch", scratch]
        for option, asset in (
            ("language-model", "lid.176.ftz"),
            ("tokenizer", "olmo-tokenizer"),
            ("naughty-words", "naughty-words-en"),
        ):
            command += [f"--{option}", str(assets.fetch(asset))]
        return command + (["--outputs", str(outputs)] if outputs else [])

    def measure(self, case: Case, given: Input, outputs: Path | None = None) -> dict[str, Any]:
        """Run one process and return what it reports, with the load average when it began and its command.

        Raises MeasurementFailed with the end of its complaints.
        """
        scratch = tempfile.mkdtemp(dir=self.work, prefix="scratch-")
        command = self.command(case, given, scratch, outputs)
        environment = {**os.environ, **ONE_THREAD, "HF_HUB_OFFLINE": "1"}
        if self.numba_cache is not None:
            environment["NUMBA_CACHE_DIR"] = str(self.numba_cache)
        load = os.getloadavg()[0]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=TIMEOUT,
                preexec_fn=self._pin,
            )
        except subprocess.TimeoutExpired as error:
            raise MeasurementFailed(f"{case.key}: no result after {TIMEOUT:.0f} s") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            raise MeasurementFailed(
                f"{case.key}: ended with {done.returncode}: {' / '.join(done.stderr.strip().splitlines()[-4:])}"
            )
        result: dict[str, Any] = json.loads(lines[-1])
        return {**result, "load_average": load, "command": [part.replace(scratch, "SCRATCH") for part in command]}

    def _pin(self) -> None:
        if self.core is not None:
            os.sched_setaffinity(0, {self.core})


def last_core() -> int | None:
    """The highest core this process may use; None where the system cannot say."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def describe_machine() -> dict[str, Any]:
    """CPU model, cores, memory, load: what a reader needs to place the figures."""
    facts: dict[str, Any] = {"platform": sys.platform, "cores": os.cpu_count(), "load_average": os.getloadavg()}
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [
            line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        facts["cpu"] = models[0] if models else "unknown"
    if hasattr(os, "sysconf"):
        facts["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return facts
