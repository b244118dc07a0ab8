"""A corpus of texts that try to break a page: markup, scripts, other directions of writing, NUL, marks, no white space.

Everything passes the language stage, as there is no rule about language; what is dropped is dropped by other rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from olmo_core.artifacts.build import Built
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.corpus_recipe import CorpusRecipe
from olmo_core.curation.steps.report import facts_of, without_places
from olmo_core.report.page.facts import Facts
from olmo_core.workers import Workers
from tests.small_corpus import build_all, load, passages, record, write_jsonl

SCRIPT = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"></pre></div></details><!--"
)
RTL = "\u202e\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u2067\u200f reversed \u202d"
MARKS = "\u0301\u0302\u0303 a" + "\u0300" * 200 + " z\u0336\u0489"
SOLID = "x\u00e9\U0001f469\u200d\U0001f467" * 8000
"""104 kB without white space, of characters of 1 to 4 bytes."""

RULES = [
    {"name": "few <b>words</b>", "column": "gopher_word_count", "drop_if": "<", "value": 4},
    {"name": "personal_data", "column": "pii_count", "drop_if": ">", "value": 2},
    {"name": "javascript", "column": "c4_has_javascript", "drop_if": "is", "value": True},
    {"name": "idle", "column": "gopher_fraction_of_duplicate_lines", "drop_if": ">=", "value": 1.0},
    {"name": "profanity", "column": "lexicon_ratio", "drop_if": ">", "value": 0.02},
]
MAIL = "é\u05d0 jo\u0301 me@example.org, \u65e5\u672c you@example.net! "


@dataclass(frozen=True, kw_only=True)
class OddCorpus:
    """The corpus, built."""

    folder: Path
    store: ArtifactStore
    recipe: CorpusRecipe
    built: dict[str, Built]

    @property
    def page(self) -> str:
        """The report's HTML."""
        return self.store.storage.read(self.built["report/all"].manifest.object("report.html").path).decode()

    @property
    def manifests(self) -> dict[str, Manifest]:
        """Of all stages before the report, by `stage/source`."""
        return {label: one.manifest for label, one in self.built.items() if label != "report/all"}

    def facts(self) -> Facts:
        """What the page was made from."""
        return facts_of(without_places(self.recipe), self.manifests, self.store.storage)


def build_odd_corpus(folder: Path, workers: Workers) -> OddCorpus:
    """Write and build it."""
    prose = passages()
    near = prose[2].split(" ")
    near[len(near) // 3] = "<i>CHANGED</i>"
    odd = [
        record('"><svg onload=alert(1)>', SCRIPT + prose[0]),
        record("script alone", f"{SCRIPT} javascript {prose[1]}"),
        record("rtl \u202e di", RTL * 3),
        record("nul", f"before\0after\x1b[31m\r\n\ufffe and {RTL} in javascript {prose[3]}"),
        record("marks", MARKS * 2),
        record("solid", SOLID),
        record("solid-kept", f"{SOLID} and a few words behind it, {MAIL}"),
        record("mails", MAIL * 2 + prose[4]),
        record("mails-late", prose[5] + SOLID[:3000] + MAIL * 2),
        record("mail-kept", f"Of shit and hell: {prose[6][:700]} {MAIL}"),
        record("profane", "shit hell damn fuck and that is all"),
        record("original", prose[2] + " A longer end."),
        record("copy", " ".join(near)),
        record("copy of mark up", f"{prose[7]} {SCRIPT} one"),
        record("copy of markup", f"{prose[7]} {SCRIPT} two and a little more"),
    ]
    bad = [
        b'{"id": "broken", "text": "<script>cut',
        b'{"id": 5, "text": "x"}',
        b'{"text": "\xff\xfe<b>"}',
        b'{"id": "e"}',
    ]
    write_jsonl(folder / "odd" / "odd.jsonl", odd, bad)
    write_jsonl(folder / "plain" / "plain.jsonl", [record(f"p{i}", text) for i, text in enumerate(prose[10:22])])
    recipe = load(
        folder,
        {
            "name": "odd",
            "quarantine_limit": 0.5,
            "content": {"kind": "lexicon"},
            "mixing": {"min_bytes": 2, "remove": [{"column": "c4_lines_with_too_few_words_spans"}]},
            "sources": [
                {"read": {"kind": "dolma-jsonl", "name": "odd", "paths": [f"{folder}/odd/*"]}, "rules": RULES},
                {"read": {"kind": "dolma-jsonl", "name": "plain", "paths": [f"{folder}/plain/*"]}},
            ],
        },
    )
    store = ArtifactStore(str(folder / "store"))
    return OddCorpus(folder=folder, store=store, recipe=recipe, built=build_all(store, recipe, workers))
