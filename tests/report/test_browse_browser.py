"""The pages over a store in a real browser, from the folder: no errors, nothing wider than a phone, nothing run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from olmo_core.report.browse import site
from olmo_core.report.page.document import POLICY
from olmo_core.storage import Storage
from tests.report.chromium import console, load
from tests.report.whole_store import Whole

SOME = (
    "index.html", "corpora.html", "runs.html", "evaluations.html", "artifacts.html", "attributes.html",
    "attributes/*-selection/*.html", "tokens/*/*.html", "run/*/*.html", "checkpoint/*/*.steps.html", "evaluation/*/*.html",
    "evaluation/compared-*.html", "report/*/*.html",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, whole: Whole) -> Path:
    """The site in a folder."""
    made = tmp_path_factory.mktemp("browse") / "site"
    site.write(whole.store, Storage(str(made)))
    return made


def some(folder: Path) -> list[Path]:
    """A page of every kind."""
    return [sorted(folder.glob(pattern))[0] for pattern in SOME]


def test_pages_load_from_the_folder_without_errors(browser: str, folder: Path) -> None:
    for page in (folder / "index.html", next(folder.glob("evaluation/*/*.html")), next(folder.glob("run/*/*.html"))):
        done = load(browser, page, "--dump-dom")
        assert console(done) == [], page
        assert "<title>owned" not in done.stdout and "OLMo Flows</title>" in done.stdout


@pytest.mark.parametrize("width", [390, 1400])
def test_no_page_is_wider_than_the_screen(browser: str, folder: Path, width: int) -> None:
    """Copies that may run one script, ours, side by side in frames as wide as the screen, tell how wide they come out."""
    pages = some(folder)
    ask = (
        "<script>addEventListener('load',()=>{const d=document.documentElement;"
        "parent.postMessage([NUMBER,d.scrollWidth,d.clientWidth,d.scrollHeight].join(' '),'*')})</script>"
    )
    frames = []
    for number, page in enumerate(pages):
        html = page.read_text(encoding="utf-8").replace("<details>", "<details open>")
        copy = folder / f"measured-{number}.html"
        copy.write_text(html.replace(POLICY, "").replace("</main>", f"{ask.replace('NUMBER', str(number))}</main>"))
        frames.append(f"<iframe src='{copy.name}' style='width:{width}px;height:800px;border:0'></iframe>")
    outer = folder / f"outer-{width}.html"
    outer.write_text(
        "<title></title><script>addEventListener('message',e=>{document.title+=e.data+';'})</script>" + "".join(frames)
    )
    found = re.search(r"<title>([\d ;]+)</title>", load(browser, outer, "--dump-dom").stdout)
    assert found
    told = [tuple(map(int, one.split())) for one in found[1].rstrip(";").split(";")]
    assert len(told) == len(pages)
    for number, wide, room, high in told:
        assert wide <= room <= width, pages[number]
        assert high > 300, pages[number]


def test_a_link_is_followed_by_keyboard_and_graphs_are_links(browser: str, folder: Path) -> None:
    """Tab leads to the link that skips the menu, and every box of a lineage with a page is a link, which Tab reaches, too."""
    page = next(folder.glob("tokens/*/*.html"))
    copy = page.with_name("keys.html")
    script = (
        "<script>addEventListener('load',()=>{const a=[...document.querySelectorAll('svg.lineage a')];"
        "a[0].focus();document.title=[a.length,document.activeElement===a[0],"
        "document.querySelector('body a').className,a.every(x=>x.tabIndex===0)].join(' ')})</script>"
    )
    copy.write_text(page.read_text(encoding="utf-8").replace(POLICY, "").replace("</main>", f"{script}</main>"))
    done = load(browser, copy, "--dump-dom")
    found = re.search(r"<title>(\d+) true skip true</title>", done.stdout)
    assert found and int(found[1]) > 10
    copy.unlink()
