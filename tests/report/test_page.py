"""The report as one HTML file: whole, harmless whatever stands in the texts, the same every time, and true."""

from __future__ import annotations

import dataclasses
import hashlib
import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.build import build
from olmo_core.report.page import document
from olmo_core.report.page.facts import Facts
from olmo_core.workers import Workers
from tests.report.html_checks import Page, text_of
from tests.report.odd_corpus import OddCorpus
from tests.small_corpus import Run, chain_of


@pytest.fixture(scope="module")
def facts(odd: OddCorpus) -> Facts:
    """What its page is made from."""
    return odd.facts()


def test_the_page_is_whole_and_loads_and_runs_nothing(odd: OddCorpus, small: Run) -> None:
    ordinary = small.store.storage.read(small.manifest("report/all").object("report.html").path).decode()
    for page in (odd.page, ordinary):
        assert Page(page).faults == []
        assert "\0" not in page and "\u202e" not in page and not re.search("[\x01-\x08\x0b-\x1f\ud800-\udfff]", page)
        assert page.index("default-src 'none'") < page.index("<title>")
        assert len(page.encode()) < 400_000
    assert "document.title=" in text_of(odd.page), "the script stands there as text"


def test_the_checker_finds_what_it_looks_for() -> None:
    """A test of the test: each fault alone."""
    for bad in (
        "<div><b></div></b>", "<script>x</script>", '<a href="https://x.org">x</a>', '<img src="x">', "<p onclick=x></p>",
        "<!-- x -->", '<p id="a"></p><p id="a"></p>', '<a href="#none"></a>', "<div>", "<style>@import x</style>",
    ):  # fmt: skip
        assert Page(bad).faults, bad


def test_same_bytes_in_another_process(odd: OddCorpus) -> None:
    """Another hash seed, time zone and locale: neither order nor numbers change."""
    code = (
        "import hashlib,sys;from pathlib import Path;"
        "from olmo_core.artifacts.store import ArtifactStore;from olmo_core.curation.corpus_recipe import load_recipe;"
        "from olmo_core.curation.steps.report import facts_of,without_places;from olmo_core.report.page import document;"
        "s=ArtifactStore(sys.argv[1]);r=s.manifest(s.resolve('report/odd'));"
        "m={k:s.manifest(r.inputs[k]) for k in sys.argv[3:]};"
        "print(hashlib.sha256(document.page(facts_of(without_places(load_recipe(sys.argv[2])),m,s.storage)).encode()).hexdigest())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, odd.store.uri, str(odd.folder / "recipe.yaml"), *odd.manifests],
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Kolkata", "LC_ALL": "C"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert found.stdout.strip() == hashlib.sha256(odd.page.encode()).hexdigest(), found.stderr


def test_a_rebuild_gives_the_same_bytes(odd: OddCorpus, workers: Workers) -> None:
    step = chain_of(odd.store, odd.recipe).step("report")
    assert build(odd.store, step, workers, rebuild=True).same_bytes is True


def test_every_threshold_has_its_plot_with_the_share_on_the_wrong_side(odd: OddCorpus, facts: Facts) -> None:
    page = odd.page
    for source in facts.sources:
        manifest = facts.manifests[f"selection/{source}"]
        for rule in manifest.recipe["rules"]:
            assert f'aria-label="Histogram of {rule["column"]} in {source}"' in page
            failed = manifest.counts["failed_alone"][rule["name"]]
            shown = html.escape(rule["name"].replace("_", " "))
            assert re.search(rf"<li>{re.escape(shown)}: drops [^<]*: <span class=\"[fz]\">{failed:,} fail \(", page), (
                rule
            )
        assert f'aria-label="Histogram of text_bytes in {source}"' in page
    # The red bars of the mails: their titles add up to what fails.
    figure = next(f for f in page.split("<figure>") if 'Histogram of pii_count in odd"' in f)
    red = [int(n) for n in re.findall(r'<rect class="bad"[^>]*><title>[^<:]*: ([\d,]+)</title>', figure)]
    assert sum(red) == 2
    drawn = [int(n) for n in re.findall(r"<title>[^<:]*: ([\d,]+)</title>", figure)]
    assert sum(drawn) == facts.manifests["selection/odd"].ledger.read.documents
    assert re.search(r'<text class="cutname"[^>]*>&gt; 2</text>', figure), "the threshold is drawn in"


def test_samples_show_what_was_found_in_them(odd: OddCorpus) -> None:
    page = odd.page
    assert '<mark class="pii line" title="email, no ending punctuation">me@example.org</mark>' in page
    assert "you@example.net" in page.split("mails-late", 1)[1][:4000], "spans far behind the beginning are shown"
    kept = page.split("<h3>Kept</h3>", 1)[1].split('<section id="quarantine">', 1)[0]
    assert '<mark class="mask" title="masked">|||EMAIL_ADDRESS|||</mark>' in kept and "me@example.org" not in kept
    assert 'class="cut line"' in kept, "removed lines are struck out"
    assert "kB left out" in kept
    assert "words the same" in page.split("odd/copy</bdi>", 1)[1].split("</details>", 1)[0]
    assert "<del>&lt;i&gt;CHANGED&lt;/i&gt;" in page and "<ins>two and a little more</ins>" in page
    assert '<mark class="word line" title="shit, ' in page
    assert '<i class="c">␀</i>' in page and '<i class="c">U+202E</i>' in page


def test_quarantine_and_stages(odd: OddCorpus, facts: Facts) -> None:
    quarantine = odd.page.split('<section id="quarantine">', 1)[1].split("</section>", 1)[0]
    for reason in ("broken json", "wrong type", "invalid utf8", "missing text"):
        assert f"<b>{reason}</b>" in quarantine
    assert "line or row 16" in quarantine and "&lt;script&gt;cut" in quarantine and "\\xff\\xfe" in quarantine
    stages = odd.page.split('<section id="stages">', 1)[1]
    assert all(str(m.ref) in stages for m in facts.manifests.values())
    assert html.escape('"quarantine_limit": 0.5') in stages and str(odd.folder) not in odd.page
    assert "Rules that no document failed; right thresholds? <code>odd: idle</code>" in odd.page


def test_the_waterfall_starts_with_the_records_and_ends_with_the_tokens(odd: OddCorpus, facts: Facts) -> None:
    section = odd.page.split('<section id="waterfall">', 1)[1].split("</section>", 1)[0]
    assert "<td>Records</td>" in section and '<span class="ud">31</span>' in section
    assert "few &lt;b&gt;words&lt;/b&gt;" in section
    rows = section.split("All numbers as a table", 1)[1].count("<tr>") - 1
    assert rows == len(facts.lines)
    packed = next(line for line in facts.lines if (line.stage, line.source) == ("packing", "all"))
    assert f"<td class=n>{packed.tokens:,}</td>" in section


def test_sections_without_content_are_left_out(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = document.Section(anchor="nothing", title="Nothing", body=lambda facts: "")
    more = document.Section(anchor="more", title="More & more", body=lambda facts: "<p>here</p>")
    monkeypatch.setattr(document, "SECTIONS", (*document.SECTIONS, empty, more))
    page = document.page(facts)
    assert "nothing" not in re.findall(r'<section id="([^"]*)"', page) and "<p>here</p>" in page
    assert '<a href="#more">More &amp; more</a>' in page and Page(page).faults == []


def test_a_corpus_of_many_sources_fits(facts: Facts) -> None:
    """100 sources with 24 rules each: below 3 MB, plots for the first of them, numbers for all."""
    names = [f"source-{i:03d}" for i in range(100)]
    column = {"scale": "fraction", "bins": {str(i): 1000 + 17 * i for i in range(1, 51)}, "without_value": 3}
    rules = [
        {"name": f"rule_{i}", "column": f"fraction_{i}", "drop_if": ">", "value": 0.31 + i / 100} for i in range(24)
    ]
    selection = facts.manifests["selection/odd"]
    counts = {
        "failed_alone": {r["name"]: 100 for r in rules},
        "distributions": {r["column"]: column for r in rules}
        | {"text_bytes": selection.counts["distributions"]["text_bytes"]},
    }
    own = dataclasses.replace(selection, recipe={"rules": rules}, counts=counts)
    manifests = dict(facts.manifests)
    source = next(s for s in facts.recipe["sources"] if s["read"]["name"] == "odd")
    for name in names:
        manifests |= {f"selection/{name}": own, f"documents/{name}": facts.manifests["documents/odd"]}
    mixture = facts.report["mixture"]["odd"]
    report: dict[str, Any] = {
        **facts.report,
        "mixture": dict.fromkeys(names, mixture),
        "tokens_by_source": dict.fromkeys(names, 5),
        "stages": {label: {"artifact": str(m.ref), "shards": 1} for label, m in manifests.items()},
    }
    many = dataclasses.replace(
        facts,
        recipe={**facts.recipe, "sources": [{**source, "read": {**source["read"], "name": n}} for n in names]},
        manifests=manifests,
        report=report,
        lines=[dataclasses.replace(line, source=n) for n in names for line in facts.lines[:9]] + list(facts.lines[-1:]),
    )
    page = document.page(many)
    assert len(page.encode()) < 3_000_000
    assert Page(page).faults == []
    assert all(f"<bdi>{name}</bdi>" in page for name in names)


def test_report_json_has_the_distributions(odd: OddCorpus, facts: Facts) -> None:
    saved = json.loads(odd.store.storage.read(odd.built["report/all"].manifest.object("report.json").path))
    assert saved["distributions"]["odd"] == facts.manifests["selection/odd"].counts["distributions"]
