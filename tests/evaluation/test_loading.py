"""Loading: what is refused, sampling, worked examples, the stand-in; without the benchmarks' data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from olmo_core import assets
from olmo_core.errors import AssetError, InputError, RecipeError
from olmo_core.evaluation.benchmarks import loading
from olmo_core.evaluation.benchmarks.definitions import CORE, definition, find, names, suite
from olmo_core.evaluation.benchmarks.loading import check_known, chosen, load, make_items
from olmo_core.evaluation.items import Benchmark, Item, Selection, digest
from tests.evaluation.handmade import MMLU_EXAMPLES, MMLU_ROWS, ROWS, tables

PIQA = [{"goal": f"Goal {n}", "sol1": f"one {n}", "sol2": f"two {n}", "label": n % 2} for n in range(1838)]


def piqa(tmp_path: Path, rows: list[dict[str, object]]) -> dict[str, Path]:
    path = tmp_path / "piqa.json"
    path.write_text(json.dumps(rows))
    return {"benchmark-piqa": path}


def test_names_and_suites() -> None:
    assert len(CORE) == 9 and len(names()) == 12
    assert [b.name for b in suite("core", "in_loop")] == list(CORE)
    assert [b.name for b in suite("all")] == list(names())
    assert "truthfulqa_mc2" not in [b.name for b in suite("all", "in_loop")]
    assert suite("mmlu") == (find("mmlu"),)
    with pytest.raises(RecipeError, match="no benchmark 'mmul'; there are arc_challenge, .*suites core, all"):
        find("mmul")
    with pytest.raises(RecipeError, match="truthfulqa_mc2 has no format 'in_loop'; it has catwalk"):
        find("truthfulqa_mc2", "in_loop")


def test_another_version_of_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="piqa has 1837 items; its validation split has 1838: another split or version"
    ):
        load(find("piqa"), own_files=piqa(tmp_path, PIQA[1:]))
    with pytest.raises(InputError, match="piqa:catwalk:1: its items have the digest .*another version of the data"):
        load(find("piqa"), own_files=piqa(tmp_path, PIQA))


def test_a_known_file_is_loaded_and_its_digest_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = definition("piqa", "catwalk")
    items = make_items(found, [(found.tables[0], PIQA, [])])
    monkeypatch.setattr(loading, "known_digests", lambda: {"piqa:catwalk:1": digest(items)})
    files = piqa(tmp_path, PIQA)
    loaded = load(find("piqa"), Selection(limit=7), own_files=files)
    assert loaded.items == tuple(Random(1234).sample(list(items), 7))
    assert (loaded.population, loaded.handmade) == (1838, False)
    assert loaded.files == {"benchmark-piqa": assets.file_sha256(files["benchmark-piqa"])}
    few = load(find("piqa"), Selection(limit=1000, shots=2), own_files=files)
    assert few.population == 1836 and len({item.shots for item in few.items}) == 1


def test_a_definition_of_another_version_is_refused() -> None:
    other = Benchmark(name="piqa", version=99, format="catwalk", primary="acc_raw", split="validation", documents=1838)
    with pytest.raises(RecipeError, match="piqa:catwalk:99 is not the one this version knows, piqa:catwalk:1"):
        load(other)


def test_no_place_has_the_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message has what each place said; TruthfulQA's also names the stand-in."""
    monkeypatch.setenv("OLMO_ASSETS", str(tmp_path / "assets"))

    def fail(name: str, **options: object) -> Path:
        raise AssetError(f"cannot get asset {name}: all places failed")

    monkeypatch.setattr(assets, "fetch", fail)
    with pytest.raises(
        AssetError, match="no data for benchmark gsm8k:\n.*benchmark-gsm8k: all.*\n.*gsm8k-requests: all"
    ):
        load(find("gsm8k"))
    with pytest.raises(AssetError, match="stand-in in its schema can be asked for"):
        load(find("truthfulqa_mc2"))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("piqa", {"label": 2}, "item 0 has the right choice 2, but 2 choices"),
        ("piqa", {"label": -1}, "item 0 has the right choice -1"),
        ("piqa", {"label": "x"}, "row 0 is no item of it .ValueError"),
        ("piqa", {"goal": None, "label": None}, "row 0 is no item of it .TypeError"),
        ("arc_easy", {"answerKey": "F"}, "row 0 is no item of it .ValueError"),
        ("arc_easy", {"answerKey": "9"}, "has the right choice 8, but 5"),
        ("arc_easy", {"choices": {"text": ["a"]}, "answerKey": "A"}, "has 1 choices"),
        ("hellaswag", {"label": ""}, "row 0 is no item of it .ValueError"),
        ("copa", {"question": "reason"}, "row 0 is no item of it .KeyError: 'reason'"),
        ("winogrande", {"sentence": "No gap."}, "its sentence has no gap"),
        ("winogrande", {"answer": ""}, "row 0 is no item of it .ValueError"),
        ("gsm8k", {"answer": "Four."}, "no number after '####'"),
        ("truthfulqa_mc2", {"mc2_targets": {"choices": ["a", "b"], "labels": [1, 1]}}, "needs? labels 1 and 0"),
        ("truthfulqa_mc2", {"mc2_targets": {"choices": ["a", "b", "c"], "labels": [1, 0]}}, "needs? labels 1 and 0"),
    ],
)
def test_rows_that_are_no_items(name: str, change: dict[str, object], message: str) -> None:
    found = definition(name, "catwalk")
    rows = [{**ROWS[name][0], **change}, *ROWS[name][1:]]
    with pytest.raises(InputError, match=f"benchmark {name}: .*{message}"):
        make_items(found, [(found.tables[0], rows, [])])


def test_mmlu_rows_that_are_no_items() -> None:
    found = definition("mmlu", "catwalk")
    table = found.tables[0]
    with pytest.raises(InputError, match="benchmark mmlu, abstract_algebra: row 0 is no item of it .*another version"):
        make_items(found, [(table, [{**MMLU_ROWS[0], "choices": ["a", "b", "c"]}], MMLU_EXAMPLES)])
    with pytest.raises(InputError, match="benchmark mmlu, abstract_algebra: 4 rows for 5 worked examples"):
        make_items(found, [(table, MMLU_ROWS, MMLU_EXAMPLES[:4])])


def test_two_rows_of_one_id() -> None:
    found = definition("arc_easy", "catwalk")
    with pytest.raises(InputError, match="two items have the id Made_2"):
        make_items(found, [(found.tables[0], [ROWS["arc_easy"][0]] * 2, [])])


def some(count: int) -> list[Item]:
    return [Item(id=str(n), contexts=("c",), choices=(" a", " b"), gold=0) for n in range(count)]


def test_sampling_is_catwalk_s() -> None:
    items = some(50)
    assert chosen(items, Selection()) == tuple(items)
    assert chosen(items, Selection(limit=50)) == chosen(items, Selection(limit=1000)) == tuple(items)
    assert chosen(items, Selection(limit=5, seed=None)) == tuple(items[:5])
    assert [item.id for item in chosen(items, Selection(limit=5))] == [
        str(n) for n in Random(1234).sample(range(50), 5)
    ]
    assert chosen(items, Selection(limit=5, seed=1)) != chosen(items, Selection(limit=5, seed=2))


def test_drawn_examples_are_shared_and_not_asked() -> None:
    found = definition("piqa", "catwalk")
    rows = [*PIQA[:8], {**PIQA[8], "sol1": ""}]
    every = make_items(found, [(found.tables[0], rows, [])])
    items = make_items(found, [(found.tables[0], rows, [])], shots=2, seed=3)
    assert len(items) == 7 and len({item.shots for item in items}) == 1
    drawn = [item for item in every if item.id not in {item.id for item in items}]
    for item in drawn:
        assert item.problem is None and item.gold is not None
        assert f"{item.contexts[0]}{item.choices[item.gold]}\n\n" in items[0].shots
    assert items[0].contexts == (items[0].shots + next(i for i in every if i.id == items[0].id).contexts[0],)
    other = make_items(found, [(found.tables[0], rows, [])], shots=2, seed=4)
    assert other[0].shots != items[0].shots
    with pytest.raises(RecipeError, match="piqa has 8 items: too few for 8 examples"):
        make_items(found, [(found.tables[0], rows, [])], shots=8)


def test_winogrande_s_examples_show_the_right_option() -> None:
    found = definition("winogrande", "catwalk")
    (item,) = make_items(found, tables(found), shots=1)
    assert item.shots in (
        "Ann thanked Eve because Eve had helped her.\n\n",
        "The cup did not fit the box as it was too big.\n\n",
    )
    assert all(context.startswith(item.shots) for context in item.contexts)


@pytest.mark.parametrize(("name", "shots"), [("mmlu", 6), ("gsm8k", 9), ("truthfulqa_mc2", 7), ("truthfulqa_mc2", 0)])
def test_more_examples_than_there_are(name: str, shots: int) -> None:
    found = definition(name, "catwalk")
    with pytest.raises(RecipeError, match=f"benchmark {name} .*{shots} were asked for"):
        make_items(found, tables(found), shots=shots)


def test_the_stand_in_says_that_it_is_one() -> None:
    items = load(find("truthfulqa_mc2"), Selection(limit=5), stand_in=True)
    assert items.handmade and len(items.items) == 5 and items.population == 12
    assert list(items.files) == [loading.STAND_IN]
    with pytest.raises(RecipeError, match="piqa has no hand-made stand-in"):
        load(find("piqa"), stand_in=True)
    with pytest.raises(InputError, match="has 12 items; its validation split has 817"):
        check_known(find("truthfulqa_mc2"), load(find("truthfulqa_mc2"), stand_in=True).items)


def test_benchmarks_need_little() -> None:
    """The machine that evaluates has no Prefect, and loading items needs no torch either."""
    program = (
        "import sys, olmo_core.evaluation.benchmarks.loading;"
        "print(sorted({'torch', 'numba', 'orjson', 'prefect', 'pydantic', 'datasets'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
