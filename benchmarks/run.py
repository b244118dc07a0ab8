"""`make bench`: this project's stages and its whole chain beside the usual libraries, on the same bytes, in one run.

    python -m benchmarks.run [--runs 3] [--quick] [--dolma-env DIR] [--datatrove-env DIR] [--lm-eval-env DIR]

Every figure is the median of fresh processes pinned to one core; outputs are compared before times count. Results go to
the terminal, bench-results/bench.json and bench-results/bench.png. Exit code: 0 when everything was measured and equal,
1 when outputs differ, a process failed or a peer could not be installed. docs/benchmarks.md says what is compared.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import scoring, training
from benchmarks.cases import CASES, OURS, STAGES, Case
from benchmarks.compare import UnequalOutputs, require_equal, require_same_neighbours
from benchmarks.environments import PEERS, EnvironmentUnavailable, interpreter
from benchmarks.inputs import Input, write_inputs
from benchmarks.measuring import ONE_THREAD, Machine, MeasurementFailed, describe_machine, last_core
from benchmarks.results import chain_sums, summarise
from benchmarks.scoring import measure_scoring
from benchmarks.show import draw, markdown, table
from benchmarks.training import measure_training
from olmo_core import provenance

PARTS = {"training": training.markdown, "scoring": scoring.markdown}
"""What is measured beside the stages: the training step, and the scoring of benchmarks, and their tables."""
LIBRARY_CHECK = Case(stage="tokenization", system="tokenizers library", worker="libraries", compared="equal")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, help="fresh processes for each figure (default 3, with --quick 1)")
    parser.add_argument(
        "--quick", action="store_true", help="less text, one run, only peers that are installed: under 2 minutes"
    )
    parser.add_argument(
        "--bytes", type=int, help="text in bytes, half prose, half code (default 10 million, with --quick 2)"
    )
    parser.add_argument(
        "--small-bytes", type=int, help="text for the slowest peers and what they are compared with (default 2 million)"
    )
    parser.add_argument(
        "--dolma-env", type=Path, help="environment with dolma (default .venv-bench/dolma, made when missing)"
    )
    parser.add_argument(
        "--datatrove-env",
        type=Path,
        help="environment with datatrove (default .venv-bench/datatrove, made when missing)",
    )
    parser.add_argument(
        "--lm-eval-env", type=Path, help="environment with lm-eval (default .venv-bench/lm_eval, made when missing)"
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=[*STAGES, "chain", *PARTS],
        metavar="STAGE",
        help="only these stages, e.g. quality tokenization chain training scoring",
    )
    parser.add_argument(
        "--compile", action="store_true", help="first compile all kernels into an empty cache, and say how long it took"
    )
    parser.add_argument("--core", type=int, default=last_core(), help="core to pin every process to (default the last)")
    parser.add_argument(
        "--out", type=Path, default=Path("bench-results"), help="folder for bench.json, bench.md and bench.png"
    )
    options = parser.parse_args(arguments)
    options.runs = options.runs or (1 if options.quick else 3)
    options.bytes = options.bytes or (2_000_000 if options.quick else 10_000_000)
    options.small_bytes = min(options.bytes, options.small_bytes or (1_000_000 if options.quick else 2_000_000))
    return options


class Bench:
    """One run of the benchmark: what was measured so far and what went wrong."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options = options
        self.problems: list[str] = []
        pythons: dict[str, Path] = {}
        self.missing: list[str] = []
        wanted = {c.worker for c in CASES if not options.stages or c.stage in options.stages}
        wanted |= {"lm_eval"} if self.asked("scoring") else set()
        for name in (one for one in PEERS if one in wanted):
            try:
                pythons[name] = interpreter(name, getattr(options, f"{name}_env"), make=not options.quick)
            except EnvironmentUnavailable as error:
                self.missing.append(str(error))
        cache = work / "numba" if options.compile else None
        self.machine = Machine(work=work, pythons=pythons, core=options.core, numba_cache=cache)
        self.inputs = write_inputs(work, options.bytes, options.small_bytes)
        available = {"ours", "chain", "libraries", *pythons}
        self.cases = [c for c in CASES if c.worker in available and (not options.stages or c.stage in options.stages)]
        self.runs: dict[Case, list[dict[str, Any]]] = {}
        self.agreements: dict[Case, str] = {}

    def compile(self) -> dict[str, Any]:
        """Compile all kernels into an empty cache, as a new installation does once; return the seconds by stage."""
        found: dict[str, Any] = self.machine.measure(
            Case(stage="compile", system=OURS, worker="ours"), self.inputs["small"]
        )["seconds"]
        return found

    def round(self, number: int) -> None:
        """Run every case once, in turn, so that a slow spell of the machine meets all of them; the first time compare."""
        for position, case in enumerate(self.cases):
            print(
                f"\rrun {number + 1} of {self.options.runs}: {position + 1}/{len(self.cases)} {case.key:<50}",
                end="",
                file=sys.stderr,
                flush=True,
            )
            if number and case not in self.runs:
                continue
            outputs = None if number else self.outputs(case)
            try:
                self.runs.setdefault(case, []).append(self.machine.measure(case, self.inputs[case.input], outputs))
                if not number:
                    self.compare(case)
            except (MeasurementFailed, UnequalOutputs) as error:
                self.problems.append(str(error))
                if not self.runs.get(case):
                    self.runs.pop(case, None)
        print("\r" + " " * 80 + "\r", end="", file=sys.stderr)

    def outputs(self, case: Case) -> Path:
        """Where a case's rows go."""
        return self.machine.work / f"{case.key}.jsonl"

    def compare(self, case: Case) -> None:
        """Compare a case's rows with ours; the chain's tokens with those of the tokenizers library for the same corpus."""
        if case.worker == "chain":
            corpus = self.outputs(case).with_suffix(".corpus.jsonl")
            given = Input(name="corpus", path=corpus, documents=0, text_bytes=0, sha256="")
            rows = self.machine.work / "corpus-check.jsonl"
            self.machine.measure(LIBRARY_CHECK, given, rows)
            found = require_equal("chain against tokenizers", read_rows(self.outputs(case)), read_rows(rows))
        elif case.compared == "no":
            return
        else:
            ours = next((c for c in self.runs if (c.stage, c.system, c.input) == (case.stage, OURS, case.input)), None)
            if ours is None:
                raise UnequalOutputs(f"{case.key}: there is no result of ours to compare with")
            compare = require_equal if case.compared == "equal" else require_same_neighbours
            found = compare(case.key, read_rows(self.outputs(ours)), read_rows(self.outputs(case)))
        self.agreements[case] = str(found)

    def asked(self, part: str) -> bool:
        """Whether a part is to be measured."""
        return not self.options.stages or part in self.options.stages

    def training(self) -> dict[str, Any] | None:
        """Measure the training step beside its peer; None where it was not asked for, or failed."""
        what = training.QUICK if self.options.quick else training.Training()
        runs = 1 if self.options.quick else training.RUNS
        return self.part("training", lambda: measure_training(what, self.machine.work, runs, self.options.core))

    def scoring(self) -> dict[str, Any] | None:
        """Measure the scoring of benchmarks beside lm-eval; None where it was not asked for, or failed."""
        what = scoring.QUICK if self.options.quick else scoring.Scoring()
        peer = self.machine.pythons.get("lm_eval")
        return self.part(
            "scoring", lambda: measure_scoring(what, self.machine.work, self.options.runs, self.options.core, peer)
        )

    def part(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """Measure a part if it was asked for, and note what went wrong."""
        if not self.asked(name):
            return None
        print(name, file=sys.stderr)
        try:
            return measure()
        except MeasurementFailed as error:
            self.problems.append(str(error))
            return None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows that a measured process wrote."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def describe(bench: Bench, before: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Everything that bench.json holds, but for the seconds that the compilation and the whole took."""
    inputs = bench.inputs.items()
    return {
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.orig_argv,
        "code": provenance.code_digest(),
        "machine": {"before": before, "after": describe_machine(), "core": bench.options.core, "threads": ONE_THREAD},
        "settings": {"runs": bench.options.runs, "quick": bench.options.quick},
        "inputs": {n: {"documents": i.documents, "text_bytes": i.text_bytes, "sha256": i.sha256} for n, i in inputs},
        "stages": rows,
        "chain_sums": chain_sums(rows),
        "problems": bench.problems,
        "missing": bench.missing,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, compare, show; return the exit code."""
    options = parse(arguments)
    began = time.monotonic()
    before = describe_machine()
    with tempfile.TemporaryDirectory(prefix="olmo-bench-") as folder:
        bench = Bench(options, Path(folder))
        full = bench.inputs["full"]
        print(f"input: {full.documents} documents, {full.text_bytes / 1e6:.1f} MB", file=sys.stderr)
        compiled = bench.compile() if options.compile else None
        for number in range(options.runs):
            bench.round(number)
        parts = {"training": bench.training(), "scoring": bench.scoring()}
    rows = summarise(bench.runs, bench.agreements)
    result = describe(bench, before, rows)
    result |= {**parts, "compile_seconds": compiled, "seconds": round(time.monotonic() - began, 1)}
    sums = result["chain_sums"]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    tables = [table_of(parts[name]) for name, table_of in PARTS.items() if parts[name]]
    (options.out / "bench.md").write_text("\n".join([*([markdown(rows, sums)] if rows else []), *tables]), "utf-8")
    if rows:
        title = f"{before.get('cpu', sys.platform)}, median of {options.runs}, {result['when'][:10]}"
        draw(rows, sums, options.out / "bench.png", title, scoring.bars(parts["scoring"] or {}))
    print("\n\n".join([*([table(rows, sums)] if rows else []), *tables]))
    if compiled:
        parts = ", ".join(f"{stage} {seconds:.0f}" for stage, seconds in compiled.items())
        print(f"\ncompilation, once for an installation: {sum(compiled.values()):.0f} s ({parts})")
    print(f"{options.out}/bench.json, bench.md, bench.png; {result['seconds']} s")
    for problem in bench.problems:
        print(f"PROBLEM: {problem}", file=sys.stderr)
    for peer in bench.missing:
        print(f"NOT MEASURED: {peer}", file=sys.stderr)
    return 1 if bench.problems or (bench.missing and not options.quick) else 0


if __name__ == "__main__":
    sys.exit(main())
