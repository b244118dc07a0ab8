"""A small corpus of real prose as Dolma JSON lines, its recipe, and the whole chain over it, built once for all tests.

The prose is Python's own language reference (`pydoc_data.topics`), which any installation carries; among it lie
documents made to be noticed: personal data, NUL bytes, special tokens, other languages, copies, a malformed line.
A pytest plugin (named in conftest.py), because tests of several folders look at the same run.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pyarrow as pa
import pytest
import yaml
import zstandard

from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.plan import Planned, plan
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import Chain, resolve_models, take_inventories
from olmo_core.curation.corpus_recipe import CorpusRecipe, load_recipe
from olmo_core.curation.layout import document_objects
from olmo_core.documents.shards import read_shard
from olmo_core.workers import Workers

Record = dict[str, Any]

WEB_RULES = [
    {"name": "language", "column": "target_score", "drop_if": "<", "value": 0.5},
    {"name": "too_few_words", "column": "gopher_word_count", "drop_if": "<", "value": 20},
    {"name": "symbols", "column": "gopher_symbol_to_word_ratio", "drop_if": ">", "value": 0.1},
    {"name": "personal_data", "column": "pii_count", "drop_if": ">", "value": 5},
]
GERMAN = (
    "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Verpflichtung aller staatlichen Gewalt. "
)
PERSONAL = "Write to jane.doe@example.org or call (555) 123-4567, or try the machine at 192.0.2.17 before noon.\n\n"


def passages(size: int = 1500) -> list[str]:
    """Return different pieces of real prose of about `size` characters, always in the same order."""
    found: dict[str, None] = {}
    for name in sorted(topics):
        piece = ""
        for paragraph in topics[name].split("\n\n"):
            piece += paragraph + "\n\n"
            if len(piece) > size:
                found.setdefault(piece)
                piece = ""
    return list(found)


def record(identifier: str, text: str) -> Record:
    """Return a Dolma record; its metadata makes a file larger than its text, so that a file is a shard of its own."""
    return {
        "id": identifier,
        "text": text,
        "added": "2026-11-21",
        "metadata": {"url": f"https://example.org/{identifier}", "pad": "x" * 300},
    }


def write_jsonl(path: Path, records: Sequence[Record], raw: Sequence[bytes] = ()) -> Path:
    """Write records, then raw lines, compressed as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in records) + b"".join(
        line + b"\n" for line in raw
    )
    if path.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    elif path.suffix == ".zst":
        data = zstandard.ZstdCompressor().compress(data)
    path.write_bytes(data)
    return path


def _plain_prose() -> list[str]:
    """Return the dozen passages with the most letters and spaces: no language model doubts that they are English."""
    return sorted(passages(), key=lambda text: sum(c.isalpha() or c == " " for c in text) / len(text))[-12:]


def planted(wiki: Sequence[str]) -> list[Record]:
    """Return the documents that are made to be noticed; their ids say what they are."""
    base = _plain_prose()
    near = wiki[1].split(" ")
    near[len(near) // 2] = "CHANGED"
    return [
        record("nul", base[0] + "before\0after " + base[0][::2]),
        record("special", base[1] + "a literal <|endoftext|> and |||EMAIL_ADDRESS||| in the text"),
        record("unicode", base[2] + "cafe\u0301 in two code points, Straße, 日本語, 👩‍👩‍👧 and U+2028 \u2028 here"),
        record("personal", PERSONAL + base[3]),
        record("personal-many", PERSONAL * 3 + base[4]),
        record("german", GERMAN * 8),
        record("chinese", "人人生而自由，在尊严和权利上一律平等。" * 20),
        record("short", "Too short to stay."),
        record("copy-of-wiki", wiki[0]),
        record("nearly-wiki", " ".join(near)),
    ]


def write_sources(folder: Path) -> None:
    """Write eleven files of the source `web` and three of `wiki` below a folder."""
    aside = set(_plain_prose())
    texts = [text for text in passages() if text not in aside]
    wiki, web = texts[:42], texts[42:]
    for i in range(3):
        own = wiki[14 * i : 14 * (i + 1)]
        write_jsonl(folder / "wiki" / f"wiki-{i}.jsonl.gz", [record(f"w{i}-{j}", text) for j, text in enumerate(own)])
    for i in range(10):
        own = web[16 * i : 16 * (i + 1)]
        suffix = ".jsonl.zst" if i == 9 else ".jsonl"
        write_jsonl(folder / "web" / f"web-{i}{suffix}", [record(f"d{i}-{j}", text) for j, text in enumerate(own)])
    write_jsonl(folder / "web" / "planted.jsonl", planted(wiki), [b'{"id": "broken", "text": "cut sho'])


def small_recipe(folder: Path, **changes: Any) -> dict[str, Any]:
    """Return the recipe of the small corpus as YAML values, with top-level fields replaced."""
    return {
        "name": "small",
        "seed": 7,
        "shard_bytes": 33000,
        "quarantine_limit": 0.05,
        "content": {"kind": "lexicon"},
        "mixing": {"min_bytes": 32},
        "tokens": {"shard_tokens": 30000},
        "sources": [
            {"read": {"kind": "dolma-jsonl", "name": "web", "paths": [f"{folder}/web/*"]}, "rules": WEB_RULES},
            {
                "read": {"kind": "dolma-jsonl", "name": "wiki", "paths": [f"{folder}/wiki/*"], "priority": 1},
                "repeat": 1.5,
            },
        ],
        **changes,
    }


def load(folder: Path, data: Mapping[str, Any]) -> CorpusRecipe:
    """Write a recipe as YAML and load it as the flow does."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(dict(data), allow_unicode=True))
    return load_recipe(str(path))


def chain_of(store: ArtifactStore, recipe: CorpusRecipe) -> Chain:
    """Return the chain of a recipe over the files as they are now."""
    resolved, models = resolve_models(store, recipe)
    return Chain(recipe=resolved, inventories=take_inventories(store, resolved), models=models)


def planned(store: ArtifactStore, recipe: CorpusRecipe) -> dict[str, Planned]:
    """Return what `olmo plan` would say, by `stage/source`."""
    return {p.label: p for p in plan(store, chain_of(store, recipe).steps())}


def build_all(
    store: ArtifactStore, recipe: CorpusRecipe, workers: Workers, until: str | None = None
) -> dict[str, Built]:
    """Build all stages, or those before the corpus stage `until`; returns what became of them, by `stage/source`."""
    return {step.label: build(store, step, workers) for step in chain_of(store, recipe).steps(until)}


@dataclass(frozen=True, kw_only=True)
class Run:
    """The small corpus, built."""

    folder: Path
    """Holds the sources (`web`, `wiki`), the recipe and the store."""
    store: ArtifactStore
    recipe: CorpusRecipe
    planned: dict[str, Planned]
    """What was said before anything was built."""
    built: dict[str, Built]

    def manifest(self, label: str) -> Manifest:
        """Return the manifest of `stage/source`."""
        return self.built[label].manifest

    def rows(self, label: str, key: str | None = None) -> list[Record]:
        """Return the rows of an artifact's Parquet shards, or of one of them, in order of key."""
        manifest = self.manifest(label)
        objects = [o for o in document_objects(manifest) if o.path.endswith(".parquet") and key in (None, o.key)]
        return pa.concat_tables([read_shard(self.store.storage, o.path) for o in objects]).to_pylist()  # type: ignore[no-any-return]

    def about(self, label: str, source: str, identifier: str) -> Record:
        """Return one document's row of an artifact with the shards of `documents/{source}`."""
        prefix = f"{source}/" if label.endswith("/all") else ""
        for one in document_objects(self.manifest(f"documents/{source}")):
            ids = [r["id"] for r in self.rows(f"documents/{source}", one.key)]
            if identifier in ids:
                return self.rows(label, prefix + one.key)[ids.index(identifier)]
        raise KeyError(identifier)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that look at the small corpus run in one process, so that it is built once: first, as xdist looks at the groups in this hook too."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if "small" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group("small-corpus"))


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    """Two worker processes, shared by all tests: starting one and loading its kernels takes seconds."""
    with Workers(2) as pool:
        yield pool


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> Run:
    """The small corpus, built once. Tests may not change its folder or its store."""
    folder = tmp_path_factory.mktemp("small")
    write_sources(folder)
    recipe = load(folder, small_recipe(folder))
    store = ArtifactStore(str(folder / "store"))
    said = planned(store, recipe)
    return Run(folder=folder, store=store, recipe=recipe, planned=said, built=build_all(store, recipe, workers))
