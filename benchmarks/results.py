"""From runs to figures: medians, MB/s, ratios on the same bytes, and the sums that the whole chain is compared with.

CPU seconds come first: they are what a core is busy for, whatever else the machine does meanwhile. MB are 10^6 bytes of
UTF-8 text, also where files are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.cases import CHAIN_SUMS, OURS, STAGES, Case

Run = Mapping[str, Any]
LIKE = {"pii": ("pii", "pii-compatible")}
"""Stages whose peers do the same job by another definition."""
NOT_THE_SAME_JOB = ("pyarrow alone",)


def summarise(runs: Mapping[Case, Sequence[Run]], agreements: Mapping[Case, str]) -> list[dict[str, Any]]:
    """Return one row for each case that ran, in the order of the chain, ours first; ratios are of medians.

    A peer whose outputs were to be compared and have no agreement gets no ratio.
    """
    rows: list[dict[str, Any]] = []
    order = [*STAGES, "chain"]
    for case in sorted(runs, key=lambda c: (order.index(c.stage), c.input, c.system != OURS)):
        seconds = {kind: [run[kind] for run in runs[case]] for kind in ("cpu", "wall")}
        size = runs[case][0]["bytes"]
        row: dict[str, Any] = {
            "stage": case.stage,
            "system": case.system,
            "input": case.input,
            "what": runs[case][0]["what"],
            "bytes": size,
            "runs": [{**run} for run in runs[case]],
            "compared": case.compared,
            "agreement": agreements.get(case),
            "note": case.note,
        }
        for kind, values in seconds.items():
            row[f"{kind}_seconds"] = median(values)
            row[f"{kind}_mb_per_s"] = size / 1e6 / median(values)
            row[f"{kind}_mb_per_s_range"] = [size / 1e6 / max(values), size / 1e6 / min(values)]
        ours = _ours(rows, case)
        if ours is not None and (case.compared == "no" or case in agreements):
            for kind in seconds:
                row[f"{kind}_ratio"] = row[f"{kind}_seconds"] / ours[f"{kind}_seconds"]
        rows.append(row)
    return rows


def _ours(rows: Sequence[Mapping[str, Any]], case: Case) -> Mapping[str, Any] | None:
    if case.system == OURS:
        return None
    wanted = (case.stage, OURS, case.input)
    return next((row for row in rows if (row["stage"], row["system"], row["input"]) == wanted), None)


def chain_sums(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the peers' stages take together for the bytes that went through ours, and the ratios.

    A stage's seconds are its seconds for a byte times the bytes that our chain put into the stage (tokenization: the
    corpus without duplicates). A sum is left out when one of its stages was not measured or gave other results than
    ours, and all of them when our own chain's tokens were not found to be right.
    """
    chain = next((row for row in rows if row["stage"] == "chain"), None)
    if chain is None or chain["agreement"] is None:
        return []
    fed = chain["runs"][0]["stages"]
    sums = []
    for name, wanted in CHAIN_SUMS.items():
        parts: dict[str, Mapping[str, Any]] = {}
        for stage, system in wanted.items():
            candidates = [row for row in rows if row["stage"] in LIKE.get(stage, (stage,)) and _may_count(row, system)]
            if candidates:
                parts[stage] = min(candidates, key=lambda row: row["cpu_seconds"] / row["bytes"])
        if len(parts) < len(wanted):
            continue
        total = {"cpu": 0.0, "wall": 0.0}
        for stage, row in parts.items():
            share = (
                fed["documents" if stage == "read-jsonl" else stage.removesuffix("-compatible")]["bytes"] / row["bytes"]
            )
            for kind in total:
                total[kind] += row[f"{kind}_seconds"] * share
        sums.append(
            {
                "name": name,
                "stages": {
                    stage: f"{row['system']} ({row['stage']})" if row["stage"] != stage else row["system"]
                    for stage, row in parts.items()
                },
                **{f"{kind}_seconds": value for kind, value in total.items()},
                **{f"{kind}_mb_per_s": chain["bytes"] / 1e6 / value for kind, value in total.items()},
                **{f"{kind}_ratio": value / chain[f"{kind}_seconds"] for kind, value in total.items()},
            }
        )
    return sums


def _may_count(row: Mapping[str, Any], system: str) -> bool:
    """Say whether a row is of that peer (`*`: of any) and may be compared with ours."""
    if row["system"] in (OURS, *NOT_THE_SAME_JOB) or "cpu_ratio" not in row:
        return False
    return system in ("*", row["system"])
