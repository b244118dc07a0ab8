"""`olmo report`: the page is found in a folder and in a bucket, copied, opened, and missed with a clear word."""

from __future__ import annotations

import dataclasses
import json
import urllib.request
import webbrowser
from pathlib import Path

import pytest

from flows.command.main import main
from olmo_core.artifacts.store import ArtifactStore
from tasks.dashboard import whole_report
from tests.small_corpus import Run


@pytest.fixture
def page(small: Run) -> bytes:
    """The small corpus's page."""
    return small.store.storage.read(small.manifest("report/all").object("report.html").path)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.strip()


def test_a_page_in_a_folder_is_named_copied_and_opened(
    small: Run, page: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ["--store", small.store.uri]
    assert main(["report", "small", *store]) == 0
    file = Path(said(capsys))
    assert file.read_bytes() == page and file.is_relative_to(small.folder)

    assert main(["report", "small", *store, "--to", str(tmp_path / "new" / "page.html")]) == 0
    assert (
        said(capsys) == str(tmp_path / "new" / "page.html")
        and Path(tmp_path / "new" / "page.html").read_bytes() == page
    )
    assert main(["report", "small", *store, "--to", str(tmp_path), "--json"]) == 0
    told = json.loads(said(capsys))
    assert told["file"] == str(tmp_path / "small.html") and told["report"] == str(small.built["report/all"].ref)
    assert Path(told["file"]).read_bytes() == page

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    assert main(["report", "small", *store, "--open"]) == 0
    assert opened == [file.as_uri()]


def test_what_is_not_there_is_said(
    small: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["report", "smal", "--store", small.store.uri]) == 1
    assert "there is no report/smal in" in capsys.readouterr().err
    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    assert main(["report", "small", "--store", small.store.uri, "--open"]) == 1
    assert "no browser" in capsys.readouterr().err

    # A report of a time before there was a page.
    older = ArtifactStore(str(tmp_path / "older"))
    manifest = small.manifest("report/all")
    shards = [
        dataclasses.replace(s, objects=tuple(o for o in s.objects if o.key != "report.html")) for s in manifest.shards
    ]
    older.publish(dataclasses.replace(manifest, shards=tuple(shards)))
    assert main(["report", "small", "--store", older.uri]) == 1
    assert "run build-dolma again" in capsys.readouterr().err


@pytest.mark.s3
def test_a_page_in_a_bucket(
    small: Run,
    page: bytes,
    bucket: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It comes to the state folder; its web address shows it as a page, where the bucket lets everybody read."""
    monkeypatch.setenv("OLMO_HOME", str(tmp_path))
    store = ArtifactStore(f"s3://{bucket}/store")
    manifest = small.manifest("report/all")
    path = manifest.object("report.html").path
    for one in manifest.objects:
        store.storage.put(one.path, small.store.storage.read(one.path))
    store.publish(manifest)
    assert main(["report", "small", "--store", store.uri]) == 0
    file = Path(said(capsys))
    assert file.parent == tmp_path / "reports" and file.read_bytes() == page

    shown = whole_report(store, small.built["report/all"], "small")
    assert f"olmo report small --store {store.uri} --open" in shown
    address = store.storage.web_address(path)
    assert address is not None and f"]({address})" in shown and "Signature" not in shown
    import boto3

    boto3.session.Session().client("s3").put_object_acl(Bucket=bucket, Key=f"store/{path}", ACL="public-read")
    with urllib.request.urlopen(address) as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8" and answer.read() == page


def test_the_dashboard_names_the_file_of_a_folder(small: Run) -> None:
    shown = whole_report(small.store, small.built["report/all"], "small")
    path = small.manifest("report/all").object("report.html").path
    assert small.store.storage.url(path) in shown and "](" not in shown, "browsers do not follow links to files"
