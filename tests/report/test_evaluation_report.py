"""The report of evaluations as page and Markdown: what each table says, what is left out, what is never taken for markup."""

from __future__ import annotations

import math

import pytest

from olmo_core.errors import InputError
from olmo_core.evaluation.benchmarks.definitions import CORE
from olmo_core.evaluation.compare import Curve, Searched
from olmo_core.evaluation.statistics import Interval, Noise
from olmo_core.report.evaluation import curves, rows
from olmo_core.report.evaluation.card import card, curves_png
from olmo_core.report.evaluation.facts import Facts, facts_of
from olmo_core.report.evaluation.page import page
from olmo_core.report.evaluation.published import MODELS, Published
from tests.report.html_checks import Page
from tests.report.made_evaluations import ODD, evaluated, series


@pytest.fixture(scope="module")
def facts() -> Facts:
    arc = Searched(dirty=[f"arc_easy-{i}" for i in range(40)], unknown=["arc_easy-41", "arc_easy-42"])
    searched = {"arc_easy": arc, "mmlu": Searched(dirty=["x"])}
    return facts_of("toy-core", series(), ("attributes/leaky-contaminated-items/abc", searched))


def test_the_page_is_well_formed_and_nothing_in_it_is_markup(facts: Facts) -> None:
    made = page(facts)
    assert Page(made).faults == []
    assert ODD not in made and "&lt;script&gt;" in made
    for anchor in (
        "scores",
        "curves",
        "domains",
        "changes",
        "contamination",
        "published",
        "normalisations",
        "counted",
        "origin",
    ):
        assert f'<section id="{anchor}">' in made
    assert made == page(facts), "the same evaluations have the same page"


def test_sections_without_content_are_left_out() -> None:
    made = page(facts_of("one", [evaluated(0, 0.3, ["copa"])]))
    for anchor in ("curves", "changes", "contamination"):
        assert f'<section id="{anchor}">' not in made
    with pytest.raises(InputError, match="no evaluations"):
        facts_of("none", [])


def test_scores_stand_beside_each_other_with_error_bars(facts: Facts) -> None:
    table = rows.score_rows(facts)
    assert table.header == ("benchmark", "metric", "guess", *(one.label for one in facts.evaluations))
    names = [row[0] for row in table.rows]
    assert names[:9] == sorted(CORE) and names[-2:] == [
        "truthfulqa_mc2, 6-shot (stand-in: no score)",
        "core average (9)",
    ]
    arc = dict(zip(table.header, table.rows[0], strict=True))
    assert arc["metric"] == "acc_uncond" and " ±" in arc["step 4,000"]
    one = facts.last
    mean, parts = (
        rows.average(one),
        [rows.stored(one.results[f"{n}-catwalk"], one.results[f"{n}-catwalk"]["primary"]) for n in CORE],
    )
    assert mean is not None
    assert mean.value == pytest.approx(sum(p.value for p in parts) / 9)
    assert rows.half(mean) == pytest.approx(math.sqrt(sum(rows.half(p) ** 2 for p in parts)) / 9)
    assert rows.average(evaluated(0, 0.5, CORE[:8])) is None, "eight are no core average"
    guess = [one.results[f"{n}-catwalk"]["chance"] for n in CORE]
    assert rows.average_chance(one) == pytest.approx(sum(guess) / 9)
    assert rows.average_chance(evaluated(0, 0.5, CORE[:8])) is None
    last = dict(zip(table.header, table.rows[-1], strict=True))
    assert last["guess"] == rows.percent(rows.average_chance(one)) != "", (
        "what guessing reaches stands beside the average too"
    )
    single = {row[0]: row for row in rows.benchmark_rows(one).rows}
    assert single["core average (9)"][4:7] == (last["guess"], "", rows.against_chance(mean, rows.average_chance(one)))


def test_what_is_counted_is_said(facts: Facts) -> None:
    table = rows.counted_rows(facts)
    assert {row[1] for row in table.rows} == {"sciq"}
    assert table.rows[0][2:] == ("2", "12", "3 items (3 not_finite)")
    assert "15 items or documents could not be scored" in page(facts)
    single = {row[0]: row for row in rows.benchmark_rows(facts.last).rows}
    assert single["sciq"][-4:] == ("97", "2", "12", "3")


def test_changes_are_resolved_or_not_in_so_many_words(facts: Facts) -> None:
    results = {key: facts.result(key) for key in facts.last.results}
    verdicts = {(row[0], row[1]): row[-1] for row in rows.change_rows(facts.changes, results).rows}
    assert verdicts["arc_easy", "step 0 → step 1,000"] == "better"
    assert verdicts["copa", "step 3,000 → step 4,000"] == rows.NOT_RESOLVED
    assert "not resolved" in page(facts) and "does not mean equal" in page(facts)


def test_dirty_items_are_told_from_clean_ones(facts: Facts) -> None:
    table = rows.contamination_rows(facts)
    assert [row[1] for row in table.rows] == [one.label for one in facts.evaluations]
    assert {row[0] for row in table.rows} == {"arc_easy"}, "of mmlu nothing was asked"
    assert all(row[2:5] == ("40", "58", "2") for row in table.rows)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.model)
def test_published_averages_are_those_of_the_nine(model: Published) -> None:
    """A digit that was copied wrong would show: both averages are published too."""
    mean = sum(model.scores[name] for name in CORE) / len(CORE)
    assert mean == pytest.approx(model.average, abs=0.05)


def test_published_numbers_are_beside_ours_and_marked(facts: Facts) -> None:
    table = rows.published_rows(facts)
    assert table.header[-2:] == ("OLMo 1B, published", "OLMo 7B, published")
    found = {row[0]: row for row in table.rows}
    assert found["copa"][1] == "100 of 100" and found["copa"][-2:] == ("79.0", "90.0")
    assert "truthfulqa_mc2, 6-shot (stand-in: no score)" not in found
    assert "Published, not measured here" in page(facts)
    for model in MODELS:
        core = [model.scores[name] for name in CORE]
        assert sum(core) / 9 == pytest.approx(model.average, abs=0.06), "digits were not mistyped"


def test_the_card_has_the_tables_and_the_curves_are_a_picture(facts: Facts) -> None:
    made = card(facts)
    for part in (
        "## Scores",
        "## Bits per byte",
        "## Changes",
        "## Contamination",
        "## Published numbers",
        "| arc_easy |",
    ):
        assert part in made
    assert len(made.encode()) < 40_000
    png = curves_png(facts.curves, facts.last.results)
    assert png is not None and png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) > 20_000
    assert curves_png([], {}) is None


def test_of_many_checkpoints_the_card_shows_the_first_and_the_last() -> None:
    many = [evaluated(100 * i, 0.3, ["copa"]) for i in range(12)]
    made = card(facts_of("many", many))
    assert "12 evaluations, of which 5 are shown" in made
    assert "| step 0 |" in made and "| step 100 |" not in made and "| step 1,100 |" in made


def curve(values: list[float], tokens: list[int | None], band: float = math.nan) -> Curve:
    points = tuple(Interval(value=v, low=v - 0.02, high=v + 0.02, n=100) for v in values)
    return Curve(
        benchmark="x", metric="acc_raw", labels=tuple(map(str, range(len(values)))), steps=tuple(range(len(values))),
        tokens=tuple(tokens), points=points, noise=Noise(band=band, signal=0.1), chance=0.25,
    )  # fmt: skip


def test_curves_are_over_tokens_where_these_tell_checkpoints_apart() -> None:
    assert curves.axis(curve([0.1, 0.2], [0, 10]))[1] == "tokens"
    assert curves.axis(curve([0.1, 0.2], [0, None]))[1] == "steps"
    drawn = curves.draw(curve([0.3, 0.4, 0.42, 0.44], [0, 10, 20, 30], band=0.01), "a <title>")
    assert drawn.count("<circle") == 4 and 'class="band"' in drawn and "guessing: 25.0" in drawn
    assert "a &lt;title&gt;" in drawn and "nan" not in drawn
    assert 'class="band"' not in curves.draw(curve([0.3, 0.4], [0, 10]), "short")
    assert curves.draw(curve([math.nan, math.nan], [0, 10]), "nothing") == ""


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.24, 0.31), (1e-3, 2e-3), (0, 3e12), (-5, 5)])
def test_ticks_are_round_and_few(low: float, high: float) -> None:
    found = curves.ticks(low, high, 4)
    assert 2 <= len(found) <= 6
    assert all(low <= one <= high for one in found)
