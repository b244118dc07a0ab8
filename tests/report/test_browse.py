"""The pages over a store: whole, linked, safe, whatever names and texts are in it, and small however large the store is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pytest

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError
from olmo_core.recipe import fingerprint
from olmo_core.report.browse import site, training
from olmo_core.report.browse.catalog import Limits, read_catalog
from olmo_core.report.browse.steps import chosen
from olmo_core.storage import Storage
from tests.report.html_checks import Page, text_of
from tests.report.whole_store import MARKUP, Whole

Site = dict[str, str]


@pytest.fixture(scope="module")
def made(whole: Whole) -> Site:
    """Every file of the site over the whole store."""
    return {path: raw.decode() for path, raw in site.files(read_catalog(whole.store))}


def targets(path: str, html: str) -> Iterator[str]:
    """The files that a page links to, from the site's root."""
    for found in re.findall(r'href="([^"#]*)(?:#[^"]*)?"', html):
        if found and found != "data:,":
            parts: list[str] = []
            for part in (PurePosixPath(path).parent / unquote(found)).parts:
                if part == "..":
                    parts.pop()
                elif part != ".":
                    parts.append(part)
            yield "/".join(parts)


def test_every_link_leads_to_a_page_and_every_page_can_be_reached(made: Site) -> None:
    reached, waiting = {"index.html"}, ["index.html"]
    while waiting:
        path = waiting.pop()
        for target in targets(path, made[path]):
            assert target in made, f"{path} leads to {target}"
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    assert reached == set(made)


def test_anchors_of_links_are_there(made: Site) -> None:
    for path, html in made.items():
        for found, anchor in re.findall(r'href="([^"#]*)#([^"]+)"', html):
            target = next(targets(path, f'href="{found}"'), path)
            assert f'id="{anchor}"' in made[target], f"{path} leads to {target}#{anchor}"


def test_pages_are_whole_and_run_nothing(made: Site) -> None:
    for path, html in made.items():
        page = Page(html)
        page.faults = [one for one in page.faults if "leads outside" not in one]
        assert not page.faults, (path, page.faults[:3])
        assert not re.search(r'(src|href)="(https?:|//|javascript)', html), path
        assert "<script" not in html and "<img" not in html, path


def test_markup_in_names_and_texts_is_shown_as_text(made: Site, whole: Whole) -> None:
    evaluation = made[f"{whole.evaluations[-1].address}.html"]
    assert MARKUP in text_of(re.sub(r'href="[^"#]*"', "", evaluation))


def test_an_artifact_tells_what_became_of_documents_and_where_it_stands(made: Site, whole: Whole) -> None:
    catalog = read_catalog(whole.store)
    selection = next(one for one in catalog.entries.values() if one.stage == "selection" and one.ledger.dropped)
    page = made[catalog.page(selection.ref)]
    for reason, tally in selection.ledger.dropped.items():
        assert re.search(rf"<td>{reason.replace('_', ' ')}</td>.*?<td class=n>{tally.documents:,}</td>", page)
    assert 'class="lineage"' in page and "samples, kept and dropped" in page
    assert page.count("<a href=") > 20
    assert f'href="../../{selection.inputs["documents"].address}.html"' in page


def test_reports_lie_beside_the_pages_with_spans_and_a_way_back(made: Site, whole: Whole) -> None:
    reports = [path for path in made if path.endswith(".report.html")]
    assert len(reports) == 1
    assert '<mark class="' in made[reports[0]] and 'href="../../index.html">Store</a>' in made[reports[0]]


def test_what_lies_above_a_curve_is_marked_and_told() -> None:
    steps = [{"step": 0, "held_out_loss": 11.31}]
    steps += [{"step": n, "loss": 11.0 if n < 4 else 5 - 0.01 * n} for n in range(1, 101)]
    steps += [{"step": 100 + n, "loss": 4.0, "held_out_loss": 4.2} for n in range(60)]
    drawn = training.draw(steps)
    assert '<path class="helddot"' in drawn and "held out, step 0: 11.310, above what is drawn" in drawn
    assert "training, step 1: 11.000, the highest of 3 above what is drawn" in drawn
    assert drawn.count("<circle") == 50, "of the others, the last ones are dots"
    assert drawn.count('<path class="over"') == 1
    told = training.cut_off(steps)
    assert told.endswith("above it, marked by triangles: 3 training (highest 11.00), 1 held out (highest 11.31)")
    level = [{"step": n, "loss": 5 - 0.001 * n} for n in range(1, 101)]
    assert training.cut_off(level) == "" and "above" not in training.draw(level) and training.cut_off([]) == ""


def test_a_run_has_its_curve_and_its_checkpoints(made: Site, whole: Whole) -> None:
    page = made[f"{whole.run.address}.html"]
    assert '<path class="line" d="M' in page and "6" in page
    for one in whole.checkpoints:
        assert f'href="../../{one.address}.html"' in page


def test_the_step_inspector_has_the_documents_of_steps(made: Site, whole: Whole) -> None:
    page = made[f"{whole.checkpoints[-1].address}.steps.html"]
    assert re.findall(r'<section id="step-(\d+)">', page) == [str(n) for n in range(1, 7)]
    assert "of the 6 steps" in page and "olmo inspect step <bdi>toy</bdi> N" in page
    assert len(re.findall("<article>", page)) >= 12 and '<div class="text" dir="auto">' in page


def test_steps_are_the_first_the_last_and_some_between() -> None:
    assert chosen(1, 8) == [1]
    assert chosen(5, 8) == [1, 2, 3, 4, 5]
    assert chosen(1000, 5) == [1, 251, 500, 750, 1000]


def test_evaluations_that_asked_the_same_are_beside_each_other(made: Site, whole: Whole) -> None:
    path = next(path for path in made if path.startswith("evaluation/compared-"))
    assert all(f">step {n}</th>" in made[path] for n in (0, 3, 6)) and " ±" in made[path]
    assert path in set(targets("evaluations.html", made["evaluations.html"]))
    assert path in set(targets(f"{whole.evaluations[0].address}.html", made[f"{whole.evaluations[0].address}.html"]))


def test_a_site_replaces_an_earlier_one_and_nothing_else(whole: Whole, tmp_path: Path) -> None:
    folder = tmp_path / "site"
    count = site.write(whole.store, Storage(str(folder))).files
    listed = json.loads((folder / site.LISTING).read_text())
    assert len(listed) == count == len(list(folder.rglob("*.html")))
    (folder / "mine.txt").write_text("stays")
    empty = ArtifactStore(str(tmp_path / "empty"))
    empty.storage.put("refs/x", b"")
    site.write(empty, Storage(str(folder)))
    assert (folder / "mine.txt").read_text() == "stays" and len(list(folder.rglob("*.html"))) < 10
    assert "No artifact is finished" in (folder / "index.html").read_text()


def test_a_folder_of_somebody_elses_is_left_alone(whole: Whole, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(OlmoError, match="new or empty folder"):
        site.write(whole.store, Storage(str(tmp_path)))
    assert [one.name for one in tmp_path.iterdir()] == ["letter.txt"]
    (tmp_path / site.LISTING).write_text('["../outside.txt", "/etc/hostname"]')
    assert site._before(Storage(str(tmp_path))) == {}


def many(store: ArtifactStore, count: int, name: str = "many") -> None:
    """Artifacts of one chain, each made from the one before."""
    before: dict[str, ArtifactRef] = {}
    for number in range(count):
        ref = ArtifactRef(kind=Kind.ATTRIBUTES, name=f"{name}-{number % 7}", fingerprint=fingerprint([name, number]))
        store.publish(
            Manifest(
                ref=ref, stage=f"stage-{number % 7}", version=1, recipe={"name": MARKUP}, inputs=before, attempt="a",
                shards=(), ledger=Ledger(), ended=f"2026-11-{1 + number % 28:02d}T00:00:00+00:00",
            )
        )  # fmt: skip
        before = {"before": ref}


def test_a_store_of_a_thousand_artifacts() -> None:
    """Lists are cut into pages, and so are lineages; no page grows with the store."""
    store = ArtifactStore("memory://thousand")
    many(store, 1000)
    made = dict(site.files(read_catalog(store)))
    assert len([path for path in made if path.startswith("attributes/")]) == 1000
    assert {f"attributes{n}.html" for n in ("", ".2", ".3", ".4", ".5")} <= set(made)
    assert max(len(raw) for raw in made.values()) < 200_000
    few = dict(site.files(read_catalog(store, Limits(artifacts=10))))
    assert len([path for path in few if path.startswith("attributes/")]) == 10
    assert b"10 of 1,000 artifacts have a page here" in few["index.html"]


def test_what_cannot_be_read_is_told_and_hides_nothing(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    many(store, 3)
    store.storage.put(f"attributes/bad/{'0' * 12}/manifest.json", b"{")
    store.storage.put("attributes/<b>/0123/manifest.json", b"[]")
    made = {path: raw.decode() for path, raw in site.files(read_catalog(store))}
    assert "2 manifests cannot be read" in made["index.html"] and "attributes/&lt;b&gt;/0123" in made["index.html"]
    assert len([path for path in made if path.startswith("attributes/")]) == 3


def test_a_report_that_is_not_ours_is_not_copied(tmp_path: Path) -> None:
    from olmo_core.report.browse import corpora

    store = ArtifactStore(str(tmp_path / "store"))
    ref = ArtifactRef(kind=Kind.REPORT, name="evil", fingerprint=fingerprint("evil"))
    from olmo_core.artifacts.manifest import FinishedShard, StoredObject

    path = f"{ref.address}/attempt-a/report.html"
    raw = b"<!doctype html><script>alert(1)</script>"
    store.storage.put(path, raw)
    one = StoredObject(key="report.html", path=path, size=len(raw), sha256="0" * 64, digest="0" * 64, rows=1)
    shard = FinishedShard(key="report", fingerprint="0" * 64, objects=(one,), ledger=Ledger())
    store.publish(
        Manifest(
            ref=ref,
            stage="report",
            version=1,
            recipe={},
            inputs={},
            attempt="attempt-a",
            shards=(shard,),
            ledger=Ledger(),
        )
    )
    catalog = read_catalog(store)
    assert corpora.copy(catalog, ref, "x.html") is None
    made = dict(site.files(catalog))
    assert not [path for path in made if path.endswith(".report.html")]
    assert not any(b"<script>alert" in raw for raw in made.values())


def test_it_is_served_on_this_machine_to_this_machine_only(whole: Whole) -> None:
    command = [sys.executable, "-m", "flows.command.main", "browse", "--store", whole.store.uri]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = [process.stdout.readline(), process.stdout.readline()]
        folder = Path(re.search(r"files in (\S+),", said[0])[1])  # type: ignore[index]
        address = re.search(r"http://127\.0\.0\.1:\d+/", said[1])[0]  # type: ignore[index]
        assert b"Artifact store" in urllib.request.urlopen(address).read()
        foreign = urllib.request.Request(address, headers={"Host": "evil.example:80"})
        with pytest.raises(urllib.error.HTTPError, match="421"):
            urllib.request.urlopen(foreign)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{address}run/")
    finally:
        process.terminate()
        process.communicate(timeout=300)
    assert process.returncode == 0 and not folder.exists()
