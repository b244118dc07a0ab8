"""The report in a real browser: no errors in its console, no script run, nothing wider than a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from olmo_core.evaluation.compare import Searched
from olmo_core.report.evaluation import page as evaluations
from olmo_core.report.evaluation.facts import facts_of
from olmo_core.report.page.document import POLICY
from tests.report.chromium import console, load
from tests.report.made_evaluations import series
from tests.report.odd_corpus import OddCorpus


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, odd: OddCorpus) -> Path:
    """The page about the odd corpus as a file, everything folded open."""
    path = tmp_path_factory.mktemp("browser") / "report.html"
    path.write_text(odd.page.replace("<details>", "<details open>"), encoding="utf-8")
    return path


def test_the_page_loads_without_errors_and_runs_nothing(browser: str, page: Path) -> None:
    done = load(browser, page, "--dump-dom")
    assert console(done) == [], "nothing was refused, because nothing was tried"
    assert "<title>odd: corpus report</title>" in done.stdout, "no script has changed the title"
    assert "<script" not in done.stdout and "<img" not in done.stdout
    for text in (
        "Waterfall",
        "|||EMAIL_ADDRESS|||",
        "&lt;script&gt;document.title='owned'&lt;/script&gt;",
        "Quarantine",
    ):
        assert text in done.stdout, text
    assert re.search(r"<span class=\"ud\">31</span>", done.stdout)


def test_the_policy_stops_scripts_should_escaping_ever_fail(browser: str, page: Path) -> None:
    """The same page with a script let through: the console says that it was refused. So the test above can fail."""
    broken = page.with_name("broken.html")
    broken.write_text(
        page.read_text(encoding="utf-8").replace("</main>", "<script>document.title='owned'</script></main>")
    )
    done = load(browser, broken, "--dump-dom")
    assert "<title>odd: corpus report</title>" in done.stdout
    assert any("Content Security Policy" in line for line in console(done))


def measured(browser: str, page: Path, width: int) -> tuple[int, int, int]:
    """How wide a page comes out, in how much room, and how high.

    A copy of the page that may run one script, ours, in a frame as wide as the screen, tells.
    """
    outer = page.with_name(f"{page.stem}-measured-{width}.html")
    ask = (
        "<script>addEventListener('load',()=>{const d=document.documentElement;"
        "parent.postMessage([d.scrollWidth,d.clientWidth,d.scrollHeight],'*')})</script>"
    )
    inner = page.with_name(f"{page.stem}-inner-{width}.html")
    inner.write_text(page.read_text(encoding="utf-8").replace(POLICY, "").replace("</main>", f"{ask}</main>"))
    outer.write_text(
        "<title>waiting</title><script>addEventListener('message',e=>{document.title=e.data.join(' ')})</script>"
        f"<iframe src='{inner.name}' style='width:{width}px;height:800px;border:0'></iframe>"
    )
    done = load(browser, outer, "--dump-dom")
    found = re.search(r"<title>(\d+) (\d+) (\d+)</title>", done.stdout)
    assert found, done.stdout[:300]
    wide, room, high = map(int, found.groups())
    return wide, room, high


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(browser: str, page: Path, width: int) -> None:
    wide, room, high = measured(browser, page, width)
    assert wide <= room <= width
    assert 2_000 < high < 60_000


def test_it_can_be_drawn_and_printed(browser: str, page: Path) -> None:
    picture, paper = page.with_name("page.png"), page.with_name("page.pdf")
    load(browser, page, f"--screenshot={picture}", "--window-size=390,1500")
    load(browser, page, f"--print-to-pdf={paper}")
    raw = picture.read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n" and len(raw) > 30_000, "an empty page of this size has 5 kB"
    assert paper.read_bytes()[:5] == b"%PDF-" and paper.stat().st_size > 50_000


@pytest.fixture(scope="module")
def evaluation_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of evaluations, everything folded open."""
    path = tmp_path_factory.mktemp("browser") / "evaluation.html"
    searched = Searched(dirty=[f"arc_easy-{i}" for i in range(40)])
    made = facts_of("toy-core", series(), ("attributes/x", {"arc_easy": searched}))
    path.write_text(evaluations.page(made).replace("<details>", "<details open>"), encoding="utf-8")
    return path


def test_a_report_of_evaluations_loads_without_errors(browser: str, evaluation_page: Path) -> None:
    done = load(browser, evaluation_page, "--dump-dom")
    assert console(done) == []
    assert "<title>toy-core: evaluation report</title>" in done.stdout and "<script" not in done.stdout


@pytest.mark.parametrize("width", [390, 1280])
def test_a_report_of_evaluations_is_no_wider_than_the_screen(browser: str, evaluation_page: Path, width: int) -> None:
    wide, room, high = measured(browser, evaluation_page, width)
    assert wide <= room <= width
    assert 2_000 < high < 60_000
