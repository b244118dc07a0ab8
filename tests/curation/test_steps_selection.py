"""Selection on the small corpus: verdicts, reasons and counts against a plain reading of the rules."""

from __future__ import annotations

import itertools
import json
import operator
from typing import Any

import pytest

from olmo_core.artifacts.build import build, total_counts
from olmo_core.curation.corpus_recipe import SourceRecipe
from olmo_core.curation.histograms import breaks, dense, failing
from olmo_core.curation.rules import Rule
from olmo_core.curation.steps.selection import selection_step
from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.errors import RecipeError
from olmo_core.workers import Workers
from tests.small_corpus import WEB_RULES, Record, Run

FAILS = {"<": operator.lt, ">": operator.gt}
TAGS = ("language", "quality", "content", "pii")


@pytest.fixture(scope="module")
def values(small: Run) -> list[Record]:
    """Every column of every web document, one mapping each."""
    columns = [small.rows(f"{stage}/web") for stage in TAGS]
    return [{k: v for row in rows for k, v in row.items()} for rows in zip(*columns, strict=True)]


def fails(rule: dict[str, Any], value: Record) -> bool:
    seen = value[rule["column"]]
    return seen is not None and bool(FAILS[rule["drop_if"]](seen, rule["value"]))


def test_verdicts_are_those_of_the_rules(small: Run, values: list[Record]) -> None:
    for value, verdict in zip(values, small.rows("selection/web"), strict=True):
        failed = [rule["name"] for rule in WEB_RULES if fails(rule, value)]
        assert verdict["keep"] == (not failed)
        assert verdict["reason"] == (failed[0] if failed else None)
        assert {name for name in verdict if name.startswith("fails_") and verdict[name]} == {
            f"fails_{name}" for name in failed
        }
    dropped = {v["reason"] for v in small.rows("selection/web")} - {None}
    assert dropped == {"language", "too_few_words", "personal_data"}


def test_planted_documents_are_dropped_for_what_they_are(small: Run) -> None:
    expected = {"german": "language", "chinese": "language", "short": "too_few_words", "personal-many": "personal_data"}
    assert {name: small.about("selection/web", "web", name)["reason"] for name in expected} == expected
    for name in ("nul", "special", "unicode", "personal", "copy-of-wiki", "nearly-wiki"):
        assert small.about("selection/web", "web", name)["keep"], name


def test_below_the_floor_no_tagger_ran(small: Run) -> None:
    for identifier in ("german", "chinese"):
        assert small.about("language/web", "web", identifier)["target_score"] < 0.2
        for stage in ("quality", "content", "pii", "signatures"):
            assert set(small.about(f"{stage}/web", "web", identifier).values()) == {None}, stage
        assert small.about("selection/web", "web", identifier)["reason"] == "language"
    assert small.manifest("language/web").counts["below_floor"] == 0
    below = sum(v["target_score"] < 0.2 for v in small.rows("language/web"))
    for stage in ("quality", "content", "pii", "signatures"):
        assert small.manifest(f"{stage}/web").counts["below_floor"] == below >= 2
        assert small.manifest(f"{stage}/wiki").counts["below_floor"] == 0, (
            "a source without a language rule has no floor"
        )


def test_ledger_and_counts(small: Run, values: list[Record]) -> None:
    manifest = small.manifest("selection/web")
    alone = {str(rule["name"]): sum(fails(rule, value) for value in values) for rule in WEB_RULES}
    assert manifest.counts["failed_alone"] == alone
    sizes = [len(d["text"].encode()) for d in small.rows("documents/web")]
    verdicts = small.rows("selection/web")
    for reason, tally in manifest.ledger.dropped.items():
        hit = [size for size, v in zip(sizes, verdicts, strict=True) if v["reason"] == reason]
        assert (tally.documents, tally.bytes) == (len(hit), sum(hit))


def test_distributions_are_those_of_the_values(small: Run, values: list[Record]) -> None:
    """Every column that a rule looks at, the language score and text lengths; the share on the wrong side is exact."""
    counted = small.manifest("selection/web").counts["distributions"]
    rules = [Rule(**rule) for rule in WEB_RULES]
    assert set(counted) == {rule.column for rule in rules} | {"target_score", "text_bytes"}
    for rule in rules:
        one = counted[rule.column]
        places = breaks(one["scale"], [rule])
        counts = dense(one["bins"], places)
        assert counts[failing(rule, one["scale"], places)].sum() == sum(fails(rule.__dict__, v) for v in values)
        seen = [v[rule.column] for v in values if v[rule.column] is not None]
        assert counts.tolist() == _bins(seen, places.tolist()) and one["without_value"] == len(values) - len(seen)
    assert counted["target_score"]["without_value"] == 0 < counted["pii_count"]["without_value"]
    sizes = [len(d["text"].encode()) for d in small.rows("documents/web")]
    kept = [size for size, v in zip(sizes, small.rows("selection/web"), strict=True) if v["keep"]]
    places = breaks("count")
    assert dense(counted["text_bytes"]["bins"], places).tolist() == _bins(sizes, places.tolist())
    assert dense(counted["text_bytes"]["kept"], places).tolist() == _bins(kept, places.tolist())
    assert small.manifest("selection/wiki").counts["distributions"].keys() == {"target_score", "text_bytes"}
    shards = [s.counts["distributions"] for s in small.manifest("selection/web").shards]
    assert len(shards) > 1 and total_counts({"d": one} for one in shards)["d"] == counted


def _bins(values: list[float], places: list[float]) -> list[int]:
    """Count by hand: bin i holds what is at least place i-1 and less than place i."""
    edges = [float("-inf"), *places, float("inf")]
    return [sum(low <= v < high for v in values) for low, high in itertools.pairwise(edges)]


def test_a_source_without_rules_keeps_all(small: Run) -> None:
    rows = small.rows("selection/wiki")
    assert [set(row) for row in rows] == [{"keep", "reason"}] * 42
    assert all(row["keep"] and row["reason"] is None for row in rows)


def test_a_rule_that_matches_nothing_is_reported(small: Run) -> None:
    one = small.manifest("report/all").object("report.json")
    report = json.loads(small.store.storage.read(one.path))
    assert small.manifest("selection/web").counts["failed_alone"]["symbols"] == 0
    assert report["rules_without_effect"] == ["web: symbols"]
    page = small.store.storage.read(small.manifest("report/all").object("report.md").path).decode()
    assert "Rules that no document failed (right thresholds?): web: symbols" in page


def test_an_unknown_column_publishes_nothing_even_unchecked(small: Run, workers: Workers) -> None:
    """Recipes are checked when they are read; the stage itself looks again."""
    rule = Rule(name="typo", column="gopher_word_cuont", drop_if="<", value=1)
    source = SourceRecipe(read=DolmaJsonlSource(name="web"), rules=(rule,))
    refs = {tag: small.built[f"{tag}/web"].ref for tag in TAGS}
    step = selection_step(source, small.built["documents/web"].ref, refs)
    before = {m.ref for m in small.store.finished("attributes", "web-selection")}
    with pytest.raises(RecipeError, match="did you mean gopher_word_count"):
        build(small.store, step, workers)
    assert {m.ref for m in small.store.finished("attributes", "web-selection")} == before
