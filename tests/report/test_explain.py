"""Everything about one document: kept, dropped by a rule, a duplicate, below the floor, unknown."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from flows.command import main
from olmo_core import assets
from olmo_core.curation.corpus_recipe import LANGUAGE_COLUMN
from olmo_core.errors import InputError, RecipeError
from olmo_core.report.explain import explain, manifests_of
from tests.small_corpus import WEB_RULES, Run


@pytest.fixture(scope="module")
def asked(small: Run) -> Iterator[Any]:
    """Asks about a document of the small corpus; its report has the tag `latest`, as after a run."""
    small.store.tag(small.built["report/all"].ref, "latest")
    yield lambda document: explain(small.store, "small", document)
    small.store.storage.delete("refs/report/small/latest.json")


def test_a_kept_document(small: Run, asked: Any) -> None:
    (found,) = asked("personal")
    assert (found["source"], found["id"], found["selected"], found["dropped_by"]) == ("web", "personal", True, None)
    assert found["text"].startswith("Write to jane.doe@example.org") and found["metadata"].startswith('{"pad"')
    spans = found["spans"]["pii_spans"]
    assert [(s["kind"], s["text"]) for s in spans] == [
        ("email", "jane.doe@example.org"),
        ("phone", "(555) 123-4567"),
        ("ip", "192.0.2.17"),
    ]
    assert found["values"]["pii_count"] == 3 and found["values"]["gopher_word_count"] > 50
    assert [r["name"] for r in found["rules"]] == [r["name"] for r in WEB_RULES]
    for rule in found["rules"]:
        assert rule["seen"] == found["values"][rule["column"]] and rule["failed"] is False
    assert found["duplicate"] is None and found["duplicates_of_it"] == []
    (tokens,) = found["tokens"]
    ids = np.memmap(f"{small.store.uri}/{tokens['shard']}", np.uint16, "r")[tokens["start"] :][: tokens["length"]]
    library = Tokenizer.from_file(str(assets.fetch("olmo-tokenizer")))
    assert ids[-1] == 50279 and library.decode(ids[:-1].tolist(), skip_special_tokens=False).startswith(
        "Write to |||EMAIL_ADDRESS|||"
    )


def test_a_source_in_front_of_the_id_means_the_same(asked: Any) -> None:
    assert asked("web/personal") == asked("personal")
    with pytest.raises(InputError, match="no document 'wiki/personal'"):
        asked("wiki/personal")


def test_a_document_dropped_by_a_rule(asked: Any) -> None:
    (found,) = asked("personal-many")
    assert (found["selected"], found["dropped_by"], found["tokens"], found["duplicate"]) == (
        False,
        "personal_data",
        [],
        None,
    )
    assert [r["name"] for r in found["rules"] if r["failed"]] == ["personal_data"]
    (rule,) = [r for r in found["rules"] if r["failed"]]
    assert (rule["seen"], rule["drop_if"], rule["value"]) == (9, ">", 5)


def test_a_document_below_the_floor(asked: Any) -> None:
    (found,) = asked("german")
    assert found["dropped_by"] == "language" and found["values"]["language"] == "de"
    assert found["values"]["gopher_word_count"] is None and found["tokens"] == []
    why = {r["name"]: r["unmeasured"] for r in found["rules"]}
    assert why.pop("language") is None and set(why.values()) == {
        f"below the language floor: {LANGUAGE_COLUMN} {found['values'][LANGUAGE_COLUMN]:.4g} < 0.2"
    }


def test_rules_that_measured_nothing_are_said_to_have_measured_nothing(
    small: Run, asked: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["explain", "german", "--corpus", "small", "--store", small.store.uri]) == 0
    rules = {line.split()[0]: line for line in capsys.readouterr().out.split("values")[0].splitlines() if line.strip()}
    assert "not measured" in rules["personal_data"] and "below the language floor" in rules["personal_data"]
    assert "fails" in rules["language"] and "None" not in rules["personal_data"] and "passes" not in rules


def test_a_duplicate_and_its_partner_name_each_other(asked: Any) -> None:
    (found,) = asked("nearly-wiki")
    assert found["selected"] and found["dropped_by"] is None and found["tokens"] == []
    assert found["duplicate"]["duplicate_of"] == "wiki/w0-1" and found["duplicate"]["kind"] == "near"
    (partner,) = asked("w0-1")
    assert partner["source"] == "wiki" and partner["duplicate"] is None
    named = {d["id"]: d for d in partner["duplicates_of_it"]}
    assert named["web/nearly-wiki"] == {
        "id": "web/nearly-wiki",
        "jaccard": found["duplicate"]["jaccard"],
        "kind": "near",
    }


def test_every_copy_of_a_repeated_document(small: Run, asked: Any) -> None:
    copies = [row["id"] for row in small.rows("mixing/all") if row["source"] == "wiki"]
    twice = next(i for i in copies if copies.count(i) == 2)
    (found,) = asked(twice)
    assert sorted(t["copy"] for t in found["tokens"]) == [0, 1]
    assert len({(t["shard"], t["start"]) for t in found["tokens"]}) == 2
    assert len({t["length"] for t in found["tokens"]}) == 1


def test_every_document_of_the_corpus_is_found_where_its_tokens_are(small: Run, asked: Any) -> None:
    for row in small.rows("mixing/all")[::40]:
        (found,) = asked(f"{row['source']}/{row['id']}")
        assert row["copy"] in [t["copy"] for t in found["tokens"]]


def test_unknown_document_and_unknown_corpus(small: Run, asked: Any) -> None:
    with pytest.raises(InputError, match="no document 'nobody' in the sources of small .web, wiki."):
        asked("nobody")
    with pytest.raises(RecipeError, match="there is no report/other"):
        explain(small.store, "other", "personal")
    assert set(manifests_of(small.store, "small")) == set(small.built) - {"report/all"}
