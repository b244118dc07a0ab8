"""Real documents that every installation of this project carries: the same texts wherever the same packages are.

    python tests/oracles/environment_documents.py --out docs.jsonl

From the packages below: long descriptions, licence files, README and documentation files and the documentation strings
of modules (prose), and Python sources (code). Which files are taken depends on a hash of their path without the
package's version, so another version of one package changes that package's documents only.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

# fmt: off
PACKAGES = (
    "aiohttp", "alembic", "anyio", "apprise", "attrs", "boto3", "botocore", "certifi", "click", "cryptography",
    "dateparser", "datasketch", "datatrove", "fonttools", "fsspec", "hypothesis", "idna", "jinja2", "jsonschema",
    "justext", "llvmlite", "lxml", "matplotlib", "mypy", "nltk", "numba", "numpy", "packaging", "pandas", "pendulum",
    "pillow", "pip", "pluggy", "prefect", "pyarrow", "pydantic", "pydantic_core", "pygments", "pytest",
    "python-dateutil", "pytz", "pyyaml", "redis", "regex", "requests", "rich", "ruff", "s3fs", "scipy", "setuptools",
    "smart_open", "sqlalchemy", "starlette", "tokenizers", "tqdm", "trafilatura", "typer", "typing_extensions",
    "urllib3", "uvicorn", "warcio", "websockets", "yarl", "zstandard",
)
# fmt: on
"""Distributions that the project's constraints pin; one that is not installed is left out."""

SMALLEST, LARGEST = 200, 200_000
"""Bytes of a document."""

LARGEST_PARSED = 25_000
"""Bytes of a source whose documentation strings are taken; parsing takes most of the time (2 MB/s)."""

BUDGET = 5_000_000
"""Bytes of all documents of one kind."""

DOCUMENTS = 700
"""Documents of one kind."""

DOCUMENTATION = re.compile(r"(?i)^(licen[cs]e|copying|notice|authors|readme|changes|changelog)|\.(md|rst|txt)$")
NOT_PROSE = re.compile(r"(?i)^(record|entry_points\.txt|top_level\.txt|.*\.(pyi?|json|c|h|pxd|pyx|toml|in))$")


@dataclass(frozen=True, kw_only=True)
class EnvironmentDocument:
    """One text, where it is from, and what it is."""

    name: str
    """Distribution and path inside it, without the version."""
    kind: str
    """`prose` or `code`."""
    text: str

    @property
    def key(self) -> str:
        """sha256 of the UTF-8 text, in hexadecimal."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def docstrings(source: str) -> str:
    """Return the documentation strings of a module and everything in it, in order, with an empty line between."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
    return "\n\n".join(text for text in found if text)


def candidates() -> Iterator[tuple[str, str, Path]]:
    """Yield `(name, what, path)` of every file of interest; `what` is description, file, docstrings or source."""
    for package in PACKAGES:
        try:
            distribution = metadata.distribution(package)
        except metadata.PackageNotFoundError:
            continue
        for file in distribution.files or ():
            if file.parts[0] == ".." or "__pycache__" in file.parts:
                continue
            name = f"{package}/" + re.sub(r"^[^/]*\.dist-info/", "dist-info/", file.as_posix())
            if file.name == "METADATA":
                yield name, "description", Path(str(file.locate()))
            elif file.suffix == ".py":
                half = hashlib.sha256(name.encode()).digest()[-1] % 2
                yield name, "source" if half else "docstrings", Path(str(file.locate()))
            elif DOCUMENTATION.search(file.name) and not NOT_PROSE.search(file.name):
                yield name, "file", Path(str(file.locate()))


def text_of(what: str, path: Path) -> str:
    """Return the document in a file, or an empty string when it holds none of a size we want."""
    try:
        if what == "docstrings" and path.stat().st_size > LARGEST_PARSED:
            return ""
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError):
        return ""
    if what == "description":
        text = text.partition("\n\n")[2]
    elif what == "docstrings":
        text = docstrings(text)
    return text if SMALLEST <= len(text.encode()) <= LARGEST else ""


@lru_cache(maxsize=1)
def environment_documents(count: int = DOCUMENTS, budget: int = BUDGET) -> tuple[EnvironmentDocument, ...]:
    """Return up to `count` prose and `count` code documents, no two texts equal, within `budget` bytes of each kind.

    In order of kind and hash. Files of documentation go before documentation strings. A document is skipped while it
    would take the kind above `budget / count` bytes a document, so that the budget lasts for all.
    """
    rank = {"description": 0, "file": 0, "docstrings": 1, "source": 2}
    ordered = sorted(candidates(), key=lambda c: (rank[c[1]], hashlib.sha256(c[0].encode()).digest()))
    kept: list[EnvironmentDocument] = []
    seen: set[str] = set()
    taken = {"prose": [0, 0], "code": [0, 0]}
    for name, what, path in ordered:
        kind = "code" if what == "source" else "prose"
        documents, size = taken[kind]
        if documents >= count:
            continue
        document = EnvironmentDocument(name=name, kind=kind, text=text_of(what, path))
        larger = size + len(document.text.encode())
        if not document.text or document.key in seen or larger > max(LARGEST, (documents + 20) * (budget // count)):
            continue
        seen.add(document.key)
        kept.append(document)
        taken[kind] = [documents + 1, larger]
    return tuple(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="JSON lines: name, kind, text")
    arguments = parser.parse_args()
    with arguments.out.open("w", encoding="utf-8") as out:
        for d in environment_documents():
            out.write(json.dumps({"name": d.name, "kind": d.kind, "text": d.text}) + "\n")


if __name__ == "__main__":
    main()
