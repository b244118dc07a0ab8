"""The benchmark's judgement: what it refuses to compare, and how it adds up. Nothing here measures time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import CASES, OURS, STAGES, Case
from benchmarks.compare import UnequalOutputs, require_equal, require_same_neighbours
from benchmarks.measuring import MeasurementFailed
from benchmarks.results import chain_sums, summarise
from benchmarks.scoring import Scoring, require_equal_scores
from benchmarks.scoring import markdown as scoring_table
from benchmarks.scoring import summary as scoring_summary
from benchmarks.show import markdown, table
from benchmarks.training import Training, require_equal_losses, summary
from benchmarks.training import markdown as training_table

ROOT = Path(__file__).resolve().parents[1]
OUR_CASE = Case(stage="language", system=OURS, worker="ours")
PEER = Case(stage="language", system="dolma", worker="dolma", compared="equal")


def test_help_works() -> None:
    command = [sys.executable, "-m", "benchmarks.run", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--dolma-env" in done.stdout and "--quick" in done.stdout


def test_every_compared_peer_has_a_case_of_ours_on_the_same_input() -> None:
    ours = {(case.stage, case.input) for case in CASES if case.system == OURS}
    assert {(case.stage, case.input) for case in CASES} == ours
    assert len({case.key for case in CASES}) == len(CASES)
    assert all(case.compared != "no" or case.note for case in CASES if case.system != OURS)


def test_peers_do_not_import_this_project() -> None:
    for path in sorted((ROOT / "benchmarks").glob("peer_*.py")):
        text = path.read_text(encoding="utf-8")
        assert not any(
            f"import {name}" in text or f"from {name}" in text for name in ("olmo_core", "tasks", "flows", "benchmarks")
        ), path


def test_equal_outputs_are_accepted_and_skips_counted() -> None:
    ours = [{"a": 1.5, "more": 0}, {"a": 2.0, "more": 0}, {"a": 9.0, "more": 0}]
    theirs: list[dict[str, Any]] = [{"a": 1.5}, {"a": 2.0}, {"a": 0.0, "_skip": {"*": "known defect"}}]
    assert str(require_equal("pair", ours, theirs)) == "a equal in 2 documents; not compared: 1 x known defect"


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ([{"a": 1.5}, {"a": 2.0000000001}], "document 1: a is 2.0 with us"),
        ([{"a": 1.5}], "2 documents came out of ours, 1 of the peer"),
        ([{"a": 1.5}, {"b": 2.0}], "the peer has b"),
        ([{"_skip": {"*": "x"}}, {"_skip": {"*": "x"}}], "only 0 of 2"),
        ([{}, {}], "only 0 of 2"),
    ],
)
def test_unequal_outputs_are_refused(theirs: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(UnequalOutputs, match=says):
        require_equal("pair", [{"a": 1.5}, {"a": 2.0}], theirs)


def test_a_missing_ngram_share_means_zero() -> None:
    name = "gopher_fraction_of_characters_in_duplicate_5grams"
    theirs: list[dict[str, Any]] = [{name: 0.25}, {"gopher_word_count": 3}]
    require_equal("pair", [{name: 0.25, "gopher_word_count": 9}, {name: 0.0, "gopher_word_count": 3}], theirs)
    with pytest.raises(UnequalOutputs, match="absent with the peer"):
        require_equal("pair", [{name: 0.25, "gopher_word_count": 9}, {name: 0.1, "gopher_word_count": 3}], theirs)


def test_signatures_must_find_the_same_near_copies() -> None:
    def copies(*groups: int) -> list[dict[str, Any]]:
        return [{"bands": [f"{group}-{band}" for band in range(20)]} for group in groups]

    ours = copies(0, 0, 0, 1, 1, 2)
    assert "all 4 pairs" in str(require_same_neighbours("pair", ours, copies(7, 7, 7, 8, 8, 8)))
    unsigned = str(require_same_neighbours("pair", ours, [*copies(7, 7, 7), {"bands": []}, *copies(8, 8)]))
    assert "all 3 pairs" in unsigned and "1 x pairs of fewer than five words" in unsigned
    with pytest.raises(UnequalOutputs, match="documents 3 and 4"):
        require_same_neighbours("pair", ours, copies(7, 7, 7, 8, 9, 9))
    with pytest.raises(UnequalOutputs, match="too few"):
        require_same_neighbours("pair", copies(*range(6)), copies(*range(6)))


def run(cpu: float, size: int = 1_000_000, **more: Any) -> dict[str, Any]:
    return {"cpu": cpu, "wall": 2 * cpu, "bytes": size, "what": "", **more}


def test_ratios_are_of_medians_and_need_an_agreement() -> None:
    runs = {PEER: [run(5.0), run(4.0), run(100.0)], OUR_CASE: [run(0.5), run(1.0), run(0.25)]}
    ours, peer = summarise(runs, {PEER: "equal"})
    assert (ours["system"], peer["cpu_ratio"], peer["wall_ratio"], peer["cpu_mb_per_s"]) == (OURS, 10.0, 10.0, 0.2)
    _, refused = summarise(runs, {})
    assert "cpu_ratio" not in refused
    assert "DIFFER" in table([refused], []) and "DIFFER" in markdown([refused], [])


def test_chain_sums_count_the_bytes_that_went_through_our_stages() -> None:
    stages = [stage for stage in STAGES if stage not in ("content-lexicon", "pii", "read-parquet")]
    peers = {s: Case(stage=s, system="datatrove" if s == "signatures" else "dolma", worker="dolma") for s in stages}
    fed = {s.removesuffix("-compatible"): {"bytes": 1_000_000} for s in stages} | {"documents": {"bytes": 1_000_000}}
    fed["tokenization"] = {"bytes": 500_000}
    chain = Case(stage="chain", system=OURS, worker="chain")
    runs = {chain: [run(0.5, stages=fed)]}
    for stage, peer in peers.items():
        runs[Case(stage=stage, system=OURS, worker="ours")] = [run(0.1)]
        runs[peer] = [run(4.0, 2_000_000)]
    rows = summarise(runs, {chain: "tokens equal"})
    toolkit, alone, fastest = chain_sums(rows)
    assert (toolkit["name"], toolkit["cpu_seconds"], toolkit["cpu_ratio"]) == ("dolma toolkit", 11.0, 22.0)
    assert "signatures" not in alone["stages"] and (alone["cpu_seconds"], alone["cpu_ratio"]) == (9.0, 18.0)
    assert fastest["stages"]["pii"] == "dolma (pii-compatible)"
    assert chain_sums(summarise(runs, {})) == []


def test_training_steps_with_other_losses_do_not_count() -> None:
    require_equal_losses([11.0, 10.9], [11.0001, 10.9])
    for wrong in (10.0, float("nan")):
        with pytest.raises(MeasurementFailed, match="the loss of step 2 is"):
            require_equal_losses([11.0, 10.9], [11.0, wrong])


def test_training_figures_are_medians_and_their_ratios() -> None:
    def run(cpu: float, memory: int) -> dict[str, Any]:
        figures = {"step_cpu_seconds": cpu, "step_seconds": 2 * cpu, "peak_memory_bytes": memory}
        return {**figures, "losses": [1.0, 0.9], "load_average": cpu}

    found = {"olmo-flows": [run(1.0, 30), run(2.0, 30), run(9.0, 31)], "transformers": [run(3.0, 60)] * 3}
    result = summary(Training(), found, {"seconds": 0.01, "cpu_seconds": 0.01})
    assert (result["cpu_ratio"], result["memory_ratio"], result["loader"]["cpu_ratio"]) == (1.5, 0.5, 200)
    assert "1.50 x as fast" in training_table(result) and "0.50 x the memory" in training_table(result)
    assert result["threads"] == 1 and "load average 1.0 to 9.0" in training_table(result)


def test_scores_that_differ_do_not_count() -> None:
    ours = {"log_likelihoods": [-3.0, -40.0], "tokens_of_targets": [1, 20]}
    require_equal_scores(ours, {"log_likelihoods": [-3.00009, -40.0019]})
    for wrong in ([-3.0002, -40.0], [-3.0, float("nan")]):
        with pytest.raises(MeasurementFailed, match="scoring: request"):
            require_equal_scores(ours, {"log_likelihoods": wrong})


def test_scoring_figures_are_of_the_peers_best_batch_and_of_the_bound() -> None:
    def run(cpu: float, requests: int, tokens: int | None = None, unshared: int | None = None) -> dict[str, Any]:
        seen = {"tokens": tokens, "tokens_unshared": unshared}
        return {"cpu_seconds": cpu, "seconds": 2 * cpu, "requests": requests, "peak_memory_bytes": 10**9, **seen}

    found = {
        "olmo-flows": [run(1.0, 60), run(2.0, 60), run(9.0, 60)],
        "shared": [run(4.0, 160, 1000, 20_000)],
        "unshared": [run(8.0, 16, 2000, 2000)],
        "lm-eval 4": [run(9.0, 60)],
        "lm-eval 16": [run(7.0, 60)],
    }
    result = scoring_summary(Scoring(), found)
    assert (result["peer"], result["cpu_ratio"], result["wall_ratio"]) == ("lm-eval 16", 3.5, 3.5)
    # 20,000 tokens at 4 ms each would take 80 s; shared they take 4.
    assert (result["bound"], result["sharing"], result["of_bound"]) == (20.0, 20.0, 1.0)
    assert "3.5 x as fast as lm-eval" in scoring_table(result) and "100% of the 20.0 x" in scoring_table(result)
    alone = scoring_summary(Scoring(), {name: runs for name, runs in found.items() if "lm-eval" not in name})
    assert alone["cpu_ratio"] is None and "as fast" not in scoring_table(alone)
