"""The environment source: what is selected from an installation, and what becomes of it."""

from __future__ import annotations

import importlib.metadata
import json
import sysconfig
from pathlib import Path
from typing import Any, Literal

import pytest

from olmo_core.documents.environment import EnvironmentSource
from olmo_core.documents.files import hash_file
from olmo_core.documents.reader import identity, read_documents, scan
from olmo_core.errors import InputError
from olmo_core.recipe import fingerprint

HEADERS = "Metadata-Version: 2.4\nName: Nice.Package\nVersion: 1.2\nLicense-Expression: MIT\n"
SITE = {
    "nice_package-1.2.dist-info/METADATA": f"{HEADERS}\n# Nice\n\nReally — nice.\n",
    "nice_package-1.2.dist-info/licenses/LICENSE": "MIT License\n",
    "nice_package-1.2.dist-info/top_level.txt": "nice\n",
    "nice_package-1.2.dist-info/RECORD": "x,,\n",
    "nice/__init__.py": '"""Nice."""\n',
    "nice/README.md": "\ufeff# Read me\r\nplease\r\n",
    "nice/NOTICE": "Notice.\n",
    "nice/license.py": "LICENCE = 1\n",
    "nice/tests/test_nice.py": "assert 1\n",
    "nice/tests/readme.txt": "test data\n",
    "nice/__pycache__/x.py": "cached\n",
    "nice/empty.py": "",
    "nice/blank.txt": " \n\n",
    "empty-1.dist-info/METADATA": "Name: empty\nVersion: 1\nLicense: UNKNOWN\n\n\nUNKNOWN\n",
    "header_only-1.dist-info/METADATA": "Name: header-only\nVersion: 1\n",
    "crlf-1.dist-info/METADATA": "Name: crlf\r\nVersion: 1\r\nClassifier: License :: OSI Approved :: BSD License\r\n\r\nBody\r\n\r\nmore\r\n",
    "olmo_core/errors.py": "ours = 1\n",
    "flows/x.py": "ours = 1\n",
    "olmo_flows-0.1.0.dist-info/METADATA": f"{HEADERS}\nours\n",
    "__editable___olmo_flows_finder.py": "ours = 1\n",
    "flowsheet/x.py": "not_ours = 1\n",
}
STDLIB = {
    "json/decoder.py": "import re\n",
    "idlelib/NEWS.txt": "News\n",
    "site-packages/x.py": "x\n",
    "test/t.py": "t\n",
}


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder, files in (("site", SITE), ("lib", STDLIB)):
        for name, text in files.items():
            path = tmp_path / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
    site = tmp_path / "site"
    (site / "nice/latin.py").write_bytes(b"x = '\xe9'\n")
    (site / "nice/binary.txt").write_bytes(b"a\0b")
    (site / "nice/large.txt").write_text("word " * 1_000_001)
    (site / "nice/link.py").symlink_to(site / "nice/__init__.py")
    (site / "linked").symlink_to(site / "nice")
    paths = {
        "purelib": str(site),
        "platlib": str(site),
        "stdlib": str(tmp_path / "lib"),
    }
    monkeypatch.setattr(sysconfig, "get_paths", lambda: paths)
    return tmp_path


def source(part: Literal["prose", "code"] = "prose", max_bytes: int | None = None) -> EnvironmentSource:
    return EnvironmentSource(name="environment", part=part, max_bytes=max_bytes)


def documents(chosen: EnvironmentSource) -> dict[str, dict[str, Any]]:
    files = scan(chosen)
    expected = {f.name: (f.size, hash_file(f)) for f in files}
    batches = list(read_documents(chosen, files, expected))
    assert sum(b.quarantined.num_rows for b in batches) == 0
    assert [f.name for b in batches for f in b.finished] == [f.name for f in files]
    return {row["id"]: row for b in batches for row in b.documents.to_pylist()}


def test_prose(installation: Path) -> None:
    found = documents(source("prose"))
    assert {name: row["text"] for name, row in found.items()} == {
        "site-packages/crlf-1.dist-info/METADATA": "Body\r\n\r\nmore\r\n",
        "site-packages/nice/NOTICE": "Notice.\n",
        "site-packages/nice/README.md": "# Read me\r\nplease\r\n",
        "site-packages/nice_package-1.2.dist-info/METADATA": "# Nice\n\nReally — nice.\n",
        "site-packages/nice_package-1.2.dist-info/licenses/LICENSE": "MIT License\n",
        "stdlib/idlelib/NEWS.txt": "News\n",
    }


def test_code(installation: Path) -> None:
    assert sorted(documents(source("code"))) == [
        "site-packages/flowsheet/x.py",
        "site-packages/nice/__init__.py",
        "site-packages/nice/license.py",
        "stdlib/json/decoder.py",
    ]


def test_metadata_comes_from_name_and_content(installation: Path) -> None:
    found = documents(source("prose"))
    described = {name: json.loads(row["metadata"]) for name, row in found.items()}
    name = "site-packages/nice_package-1.2.dist-info/METADATA"
    assert described[name] == {
        "licence": "MIT",
        "package": "Nice.Package",
        "path": name,
        "version": "1.2",
    }
    assert described["site-packages/crlf-1.dist-info/METADATA"]["licence"] == "BSD License"
    licence = described["site-packages/nice_package-1.2.dist-info/licenses/LICENSE"]
    assert (licence["package"], licence["version"]) == ("nice_package", "1.2")
    assert described["stdlib/idlelib/NEWS.txt"] == {
        "package": "idlelib",
        "path": "stdlib/idlelib/NEWS.txt",
    }
    assert {row["source"] for row in found.values()} == {"environment"}
    assert {row["created"] for row in found.values()} == {None}


def test_the_cap_is_kept_and_a_larger_one_only_adds() -> None:
    some = scan(source("code", 2_000_000))
    assert 1_000_000 < sum(f.size for f in some) <= 2_000_000
    assert set(some) < set(scan(source("code", 2_500_000)))


def test_a_new_file_moves_only_the_end_of_the_selection(installation: Path) -> None:
    for i in range(200):
        (installation / f"site/page{i}.md").write_text("word " * 20)
    before = {f.name for f in scan(source("prose", 5_000))}
    (installation / "site/added.md").write_text("word " * 20)
    after = {f.name for f in scan(source("prose", 5_000))}
    assert len(before) >= 40
    assert len(before - after) <= 1
    assert len(after - before) <= 1


def test_a_cap_that_leaves_nothing_is_an_error(installation: Path) -> None:
    with pytest.raises(InputError, match=r"no prose of at most 3 bytes.*raise max_bytes"):
        scan(source("prose", 3))


def test_the_cap_is_not_part_of_the_identity_and_the_part_is() -> None:
    assert fingerprint(identity(source("code", 100))) == fingerprint(identity(source("code")))
    assert fingerprint(identity(source("code"))) != fingerprint(identity(source("prose")))


def test_the_real_installation_against_importlib() -> None:
    """Long descriptions equal what importlib.metadata says, for every distribution that has one."""
    found = documents(source("prose"))
    site = Path(sysconfig.get_paths()["purelib"])
    compared = 0
    for distribution in importlib.metadata.distributions(path=[str(site)]):
        folder = Path(str(distribution.locate_file(""))) / str(getattr(distribution, "_path", ""))
        row = found.get(f"site-packages/{folder.name}/METADATA")
        if row is None:
            continue
        body = distribution.read_text("METADATA") or ""
        _, _, text = body.partition("\n\n")
        assert row["text"].replace("\r\n", "\n") == text
        assert json.loads(row["metadata"])["version"] == distribution.version
        assert json.loads(row["metadata"])["package"] == distribution.metadata["Name"]
        compared += 1
    assert compared >= 20


def test_a_file_that_changed_after_the_scan_is_an_error(installation: Path) -> None:
    files = scan(source("prose"))
    expected = {f.name: (f.size, hash_file(f)) for f in files}
    (installation / "site/nice/NOTICE").write_text("Notise.\n")
    with pytest.raises(
        InputError,
        match=r"nice/NOTICE changed: the inventory says 8 bytes, sha256 \w+; read were 8 bytes",
    ):
        list(read_documents(source("prose"), files, expected))
