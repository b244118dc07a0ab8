"""The pages over a store in a bucket, written into a bucket, and read from there over plain HTTP, by a browser too."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from flows.command import main
from olmo_core import storage_s3
from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import OlmoError
from olmo_core.recipe import fingerprint
from olmo_core.report.browse import site
from olmo_core.storage import Storage
from tests.report.devtools import tab
from tests.report.test_browse import targets
from tests.report.test_browse_browser import SOME
from tests.report.whole_store import Whole
from tests.s3_server import S3Server

pytestmark = pytest.mark.s3


@dataclass(kw_only=True)
class Traffic:
    """What this process asked of the server."""

    read: dict[str, int] = field(default_factory=dict)
    """Bytes that came, by key."""
    put: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    requests: int = 0
    _key: str = ""

    def note(self, params: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        """Note a request before it is sent."""
        self.requests += 1
        context["key"] = params.get("Key", "")
        {"PutObject": self.put, "DeleteObject": self.deleted}.get(model.name, []).append(context["key"])

    def came(self, parsed: dict[str, Any], model: Any, context: dict[str, Any], **_: Any) -> None:
        """Note an answer."""
        if model.name == "GetObject" and "ContentLength" in parsed:
            self.read[context["key"]] = self.read.get(context["key"], 0) + int(parsed["ContentLength"])


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    """The requests of the test."""
    found, events = Traffic(), storage_s3.client().meta.events
    events.register("before-parameter-build.s3", found.note)
    events.register("after-call.s3", found.came)
    yield found
    events.unregister("before-parameter-build.s3", found.note)
    events.unregister("after-call.s3", found.came)


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket with a store in it, and pages that all the world may read."""

    store: ArtifactStore
    pages: Storage
    address: str
    """Of the first page."""
    total: int
    """Bytes of the store."""


@pytest.fixture(scope="module")
def there(s3: S3Server, whole: Whole) -> Bucket:
    """The whole store copied into a new bucket."""
    client, name = s3.client(), "pages-of-a-store"
    client.create_bucket(Bucket=name)
    public = {
        "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{name}/pages/*"
    }  # fmt: skip
    client.put_bucket_policy(Bucket=name, Policy=json.dumps({"Version": "2012-10-17", "Statement": [public]}))
    total = 0
    for one in whole.store.storage.walk(""):
        raw = whole.store.storage.read(one.path)
        client.put_object(Bucket=name, Key=f"store/{one.path}", Body=raw)
        total += len(raw)
    pages = Storage(f"s3://{name}/pages")
    address = pages.web_address("index.html")
    assert address
    return Bucket(store=ArtifactStore(f"s3://{name}/store"), pages=pages, address=address, total=total)


def test_a_store_is_shown_from_few_of_its_bytes(there: Bucket, traffic: Traffic) -> None:
    done = site.write(there.store, there.pages)
    assert done.written == done.files > 40 and done.removed == 0
    assert not [key for key in traffic.read if key.endswith((".safetensors", ".npy", ".ids"))]
    corpus = {key: size for key, size in traffic.read.items() if "/corpus/" in key and key.endswith(".parquet")}
    sizes = {f"store/{one.path}": one.size for one in there.store.storage.walk("corpus")}
    assert corpus and all(size <= 1.1 * sizes[key] + 100_000 for key, size in corpus.items())  # not once for each step
    assert sum(traffic.read.values()) < there.total / 2


def test_pages_are_whole_for_anybody_who_follows_their_links(there: Bucket, whole: Whole) -> None:
    site.write(there.store, there.pages)
    root, reached, waiting = there.address.removesuffix("index.html"), {"index.html"}, ["index.html"]
    while waiting:
        path = waiting.pop()
        with urllib.request.urlopen(root + path) as answer:
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8", path
            html = answer.read().decode()
        assert not re.search(r'(src|href)="(https?:|//)', html), path
        new = set(targets(path, html)) - reached
        reached |= new
        waiting += sorted(new)
    assert f"{whole.run.address}.html" in reached
    assert {one.path for one in there.pages.walk("")} == reached | {site.LISTING}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{root}../store/{whole.run.address}/manifest.json")


def test_only_what_changed_is_written_again(there: Bucket, traffic: Traffic) -> None:
    site.write(there.store, there.pages)
    traffic.put.clear()
    done = site.write(there.store, there.pages)
    assert (done.written, done.removed, traffic.put) == (0, 0, [])

    ref = ArtifactRef(kind=Kind.MODEL, name="one-more", fingerprint=fingerprint("one more"))
    there.store.publish(
        Manifest(ref=ref, stage="toy", version=1, recipe={}, inputs={}, attempt="a", shards=(), ledger=Ledger(), ended="2026-11-30T00:00:00+00:00")
    )  # fmt: skip
    traffic.put.clear()
    done = site.write(there.store, there.pages)
    changed = {f"{ref.address}.html", "model.html", "artifacts.html", "index.html"}
    assert {key.removeprefix("pages/") for key in traffic.put} == {*changed, site.LISTING}
    assert done.written == len(changed)
    order = [key.removeprefix("pages/") for key in traffic.put]
    assert order.index(f"{ref.address}.html") < order.index("index.html")  # no reader is led to what is not there

    there.store.storage.delete(ref.manifest_path)
    there.pages.delete("runs.html")  # by somebody else
    done = site.write(there.store, there.pages)
    assert done.written == 3 and done.removed == 2  # the overview, the kinds, and the page that had gone
    assert set(traffic.deleted) >= {f"pages/{ref.address}.html", "pages/model.html"}
    assert there.pages.exists("runs.html") and not there.pages.exists("model.html")


def test_a_prefix_of_somebody_elses_is_left_alone(there: Bucket) -> None:
    with pytest.raises(OlmoError, match="new or empty folder or prefix"):
        site.write(there.store, Storage(there.store.uri))


def test_the_command_says_where_the_pages_are(there: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["browse", "--store", there.store.uri, "--to", there.pages.uri]) == 0
    said = capsys.readouterr().out
    assert there.pages.uri in said and said.splitlines()[-1] == there.address


def test_a_browser_shows_them_from_the_bucket(there: Bucket, browser: str, tmp_path: Path, whole: Whole) -> None:
    """No request leads elsewhere, nothing is complained of, no page is wider than a phone or a desk's screen, nothing is run."""
    site.write(there.store, there.pages)
    paths = sorted(one.path for one in there.pages.walk(""))
    wanted = [next(path for path in paths if PurePosixPath(path).match(kind)) for kind in SOME]
    root = there.address.removesuffix("index.html")
    with tab(browser, tmp_path / "profile") as page:
        for width in (390, 1400):
            for path in wanted:
                page.show(root + path, width)
                page.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
                wide, room, high, title, letters = page.ask(
                    "[document.documentElement.scrollWidth, innerWidth, document.body.scrollHeight, document.title, "
                    "parseFloat(getComputedStyle(document.body).fontSize)]"
                )
                assert wide <= room == width and high > 300 and letters >= 15, path
                assert title and title != "owned", path
        assert page.requests == 2 * [root + path for path in wanted]
        assert page.told == []
        page.show(there.address, 390)
        page.ask(f"document.querySelector('a[href=\"{whole.run.address}.html\"]').click()")
        page.loaded()
        assert page.ask("location.href") == f"{root}{whole.run.address}.html"
