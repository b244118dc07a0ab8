"""The waterfall and the report of the small corpus: joints, sums, reasons, mixture, examples."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.errors import IntegrityError
from olmo_core.report import corpus, markdown
from olmo_core.report.examples import dropped_by_rules
from olmo_core.report.waterfall import LOSING_STAGES, WaterfallLine, waterfall
from tests.small_corpus import Run


@pytest.fixture(scope="module")
def manifests(small: Run) -> dict[str, Manifest]:
    """All manifests of the small run by `stage/source`."""
    return {label: built.manifest for label, built in small.built.items()}


@pytest.fixture(scope="module")
def lines(manifests: dict[str, Manifest]) -> list[WaterfallLine]:
    """The waterfall's lines."""
    return waterfall(manifests)


@pytest.fixture(scope="module")
def report(small: Run) -> dict[str, Any]:
    """What report.json holds."""
    one = small.manifest("report/all").object("report.json")
    return json.loads(small.store.storage.read(one.path))  # type: ignore[no-any-return]


def places(lines: list[WaterfallLine]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((line.stage, line.source) for line in lines))


def test_stages_come_in_chain_order(lines: list[WaterfallLine]) -> None:
    assert places(lines) == [
        ("documents", "web"),
        ("documents", "wiki"),
        ("selection", "web"),
        ("selection", "wiki"),
        ("near-duplicates", "all"),
        ("mixing", "all"),
        ("packing", "all"),
    ]


def test_every_stage_adds_up_in_documents_and_bytes(small: Run, lines: list[WaterfallLine]) -> None:
    for stage, source in places(lines)[:-1]:
        own = [line for line in lines if (line.stage, line.source) == (stage, source)]
        assert own[0].what == "in" and own[-1].what == "kept"
        for number in ("documents", "bytes"):
            signed = [int(f"{line.sign}{getattr(line, number)}") for line in own[:-1]]
            assert sum(signed) == getattr(own[-1], number), (stage, source)
    written = [line for line in lines if line.stage in ("mixing", "packing") and line.what == "kept"]
    size = sum(len(row["text"].encode()) for row in small.rows("mixing/all"))
    assert [line.bytes for line in written] == [size, size], "what was written, after cutting and masking"


def test_rewriting_is_a_line_that_takes_or_adds(manifests: dict[str, Manifest]) -> None:
    mixing = manifests["mixing/all"]
    for change, what, sign in ((-1000, "cut and masked", "-"), (1000, "grown by masks", "+"), (0, None, "")):
        counts = {**mixing.counts, "text_bytes": {"web": mixing.ledger.kept.bytes + change}}
        lines = waterfall({**manifests, "mixing/all": dataclasses.replace(mixing, counts=counts)})
        found = [
            (line.what, line.bytes, line.sign) for line in lines if line.what in ("cut and masked", "grown by masks")
        ]
        assert found == ([(what, 1000, sign)] if what else [])


def test_what_one_stage_keeps_the_next_one_reads(lines: list[WaterfallLine]) -> None:
    def total(stage: str, what: str) -> tuple[int, int]:
        found = [line for line in lines if line.stage == stage and line.what == what]
        return sum(line.documents for line in found), sum(line.bytes for line in found)

    stages = [stage for stage in LOSING_STAGES if total(stage, "in") != (0, 0)]
    assert stages == ["documents", "selection", "near-duplicates", "mixing"], "no decontamination in this recipe"
    for before, after in zip(stages, stages[1:], strict=False):
        assert total(before, "kept") == total(after, "in"), (before, after)
    assert total("mixing", "kept")[0] == total("packing", "kept")[0]


def test_reasons_and_estimates(small: Run, lines: list[WaterfallLine]) -> None:
    by_place = {(line.stage, line.source, line.what): line for line in lines}
    assert by_place["documents", "web", "quarantined: broken_json"].documents == 1
    rules = [line.what for line in lines if (line.stage, line.source) == ("selection", "web")]
    assert rules == ["in", "language", "too_few_words", "personal_data", "kept"], (
        "in the order of the rules, idle ones left out"
    )
    assert by_place["mixing", "all", "repeated"].documents > 0, "wiki goes in one and a half times"
    packed = by_place["packing", "all", "kept"]
    assert packed.tokens == small.manifest("packing/all").counts["tokens"]
    estimated = by_place["mixing", "all", "kept"].tokens
    assert abs(estimated / packed.tokens - 1) < 0.05, "the estimate of the last stage before is near the count"


def test_lost_documents_are_noticed(manifests: dict[str, Manifest]) -> None:
    """Each joint alone: one document more in what a stage read than in what the one before kept."""
    for label in ("selection/web", "near-duplicates/all", "mixing/all", "tokenization/all", "packing/all"):
        ledger = Ledger.from_json(manifests[label].ledger.to_json())
        ledger.read.documents += 1
        wrong = {**manifests, label: dataclasses.replace(manifests[label], ledger=ledger)}
        with pytest.raises(IntegrityError, match=f"but {label} read .*lost or doubled"):
            waterfall(wrong)


def test_report_says_what_the_manifests_say(small: Run, report: dict[str, Any], lines: list[WaterfallLine]) -> None:
    assert report["waterfall"] == [line.to_json() for line in lines]
    assert report["stages"] == {
        label: {"artifact": str(b.ref), "shards": len(b.manifest.shards)}
        for label, b in small.built.items()
        if label != "report/all"
    }
    assert report["mixture"]["wiki"]["rate"] == 1.5 and report["mixture"]["web"]["rate"] == 1.0
    realised = report["tokens_by_source"]
    assert sum(realised.values()) == small.manifest("packing/all").counts["tokens"]
    for source, mixture in report["mixture"].items():
        assert abs(mixture["planned_tokens"] / realised[source] - 1) < 0.15
    masks = {
        kind: f"|||{name}|||"
        for kind, name in (("email", "EMAIL_ADDRESS"), ("phone", "PHONE_NUMBER"), ("ip", "IP_ADDRESS"))
    }
    once = [row["text"] for row in small.rows("mixing/all") if row["copy"] == 0 and row["id"] != "special"]
    assert report["masked"] == {kind: sum(text.count(mask) for text in once) for kind, mask in masks.items()}
    assert all(report["masked"].values())


def test_the_saved_recipe_is_the_one_that_ran_without_places(small: Run) -> None:
    saved = json.loads(small.store.storage.read(small.manifest("report/all").object("recipe.json").path))
    assert saved["seed"] == 7 and saved["near_duplicates"]["threshold"] == 0.8, "defaults are written out"
    assert str(small.folder) not in json.dumps(saved)
    assert [s["read"]["name"] for s in saved["sources"]] == ["web", "wiki"]


def test_examples(small: Run, manifests: dict[str, Manifest], report: dict[str, Any]) -> None:
    found = dropped_by_rules(small.store.storage, "web", manifests, each=100)
    dropped = [v["reason"] for v in small.rows("selection/web") if v["reason"]]
    assert sorted(e.reason for e in found) == sorted(dropped)
    many = next(e for e in found if e.id == "personal-many")
    assert many.facts == {"pii_count": 9} and many.text.startswith("Write to jane")
    shown = report["examples"]
    assert {e["reason"] for e in shown["dropped"]} == {"language", "too_few_words", "personal_data"}
    assert all(sum(e["reason"] == r for e in shown["dropped"]) <= 2 for r in ("language", "too_few_words"))
    assert shown["duplicates"] and all("of" in e["facts"] for e in shown["duplicates"])
    assert {e["source"] for e in shown["kept"]} == {"web", "wiki"}


def test_the_dashboards_table_has_shares_as_short_bars_and_marks_estimates() -> None:
    """Bars of ten blocks ran into the dashboard's side column."""

    def line(stage: str, what: str, documents: int) -> WaterfallLine:
        return WaterfallLine(
            stage=stage, source="web", what=what, documents=documents, bytes=documents, tokens=documents
        )

    whole = [line("selection", "in", 1000), line("selection", "language", 313), line("selection", "kept", 687)]
    table = markdown.waterfall_table([*whole, line("packing", "kept", 687)])
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]
    assert [row[-1] for row in rows] == ["", "█▋", "███▍", ""]
    assert [row[4] for row in rows] == ["~1,000", "~−313", "~687", "687"]
    assert "█████" in markdown.waterfall_table([line("selection", "in", 3), line("selection", "kept", 3)])


def test_the_page_reads_well_and_hides_no_markup(
    small: Run, report: dict[str, Any], manifests: dict[str, Manifest]
) -> None:
    page = small.store.storage.read(small.manifest("report/all").object("report.md").path).decode()
    assert "word list" in page and "## Waterfall" in page and "| web |" in page
    assert markdown.example("t", "<script>|`x`\n", {"a": 1.23456}) == (
        "<details><summary>t (a = 1.23)</summary>\n\n<blockquote>&lt;script&gt;|&#96;x&#96;<br></blockquote>\n\n</details>\n"
    )
    assert "seconds" not in page, "a page about the corpus is the same however long it took"
    table = corpus.costs(manifests)
    assert all(f"| {label} |" in table for label in manifests)
