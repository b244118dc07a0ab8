"""The silent failures A to L of the dolma toolkit 1.2.1 (each was reproduced there), and what this project does instead.

One test or more for each letter; the first sentence of its docstring says what the toolkit does. All on the real chain.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from olmo_core import processes
from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import CORPUS_STAGES
from olmo_core.curation.layout import document_objects
from olmo_core.curation.near_duplicates import NearDuplicateRecipe
from olmo_core.curation.rules import Rule, evaluate
from olmo_core.curation.signatures import SignatureRecipe
from olmo_core.documents.shards import read_shard
from olmo_core.errors import InputError, IntegrityError, QuarantineError, RecipeError, StorageError
from olmo_core.workers import Workers
from tests.small_corpus import Record, Run, build_all, chain_of, load, passages, record, small_recipe, write_jsonl

ROOT = Path(__file__).resolve().parents[1]
TAGS = ("language", "quality", "content", "pii", "signatures")


@pytest.fixture
def copied(small: Run, tmp_path: Path) -> tuple[Path, ArtifactStore]:
    """The small corpus with its store, for tests that damage or change it."""
    shutil.copytree(small.folder, tmp_path / "run")
    return tmp_path / "run", ArtifactStore(str(tmp_path / "run" / "store"))


def recipe(folder: Path, rules: Sequence[Record] = (), **changes: Any) -> Record:
    """A recipe with the one source `web`."""
    source = {"read": {"kind": "dolma-jsonl", "name": "web", "paths": [f"{folder}/web/*"]}, "rules": list(rules)}
    return small_recipe(folder, sources=[source], **changes)


def run(
    folder: Path, workers: Workers, data: Record, until: str | None = None
) -> tuple[ArtifactStore, dict[str, Built]]:
    store = ArtifactStore(str(folder / "store"))
    return store, build_all(store, load(folder, data), workers, until)


def rows(store: ArtifactStore, built: Built) -> list[Record]:
    """All rows of an artifact, in order of key."""
    objects = [o for o in document_objects(built.manifest) if o.path.endswith(".parquet")]
    return [row for o in objects for row in read_shard(store.storage, o.path).to_pylist()]


def rule(column: str, drop_if: str, value: Any) -> Record:
    return {"name": "threshold", "column": column, "drop_if": drop_if, "value": value}


# A
@pytest.mark.parametrize("drop_if", ["<", "<=", ">", ">="])
@pytest.mark.parametrize("column", [pa.array([19, 20, 21, None]), pa.array([19.0, 20.0, 21.0, None])])
def test_a_a_threshold_is_a_number_whether_written_as_integer_or_float(column: pa.Array, drop_if: str) -> None:
    """A: in the toolkit `[0, 9, 1] >= 1.0` is false, and its own decontamination drops nothing, with exit code 0."""
    found = [evaluate(Rule(name="r", column="c", drop_if=drop_if, value=v), column).to_pylist() for v in (20, 20.0)]  # type: ignore[arg-type]
    expected = {"<": [1, 0, 0], "<=": [1, 1, 0], ">": [0, 0, 1], ">=": [0, 1, 1]}[drop_if]
    assert found == [[*map(bool, expected), False]] * 2


def test_a_recipes_with_integer_and_float_are_one_recipe(workers: Workers, tmp_path: Path) -> None:
    """A: in the toolkit a threshold equal to the score drops or keeps by how it is spelled; here it is one artifact."""
    texts = ["One two three four five. " * n for n in (3, 4, 5)]
    write_jsonl(tmp_path / "web" / "a.jsonl", [record(f"n{i}", text) for i, text in enumerate(texts)])
    refs = set()
    for value in (20, 20.0):
        store, done = run(tmp_path, workers, recipe(tmp_path, [rule("gopher_word_count", "<=", value)]), "mixture")
        assert [row["keep"] for row in rows(store, done["selection/web"])] == [False, False, True]
        refs.add(done["selection/web"].ref)
    assert len(refs) == 1


def test_a_a_filter_that_can_never_fire_is_an_error_and_one_that_did_not_is_told(small: Run, tmp_path: Path) -> None:
    """A: in the toolkit a filter on a misspelt name (its `2gram`) or of the wrong type is true of nothing, unsaid."""
    for column, value, match in (
        ("gopher_fraction_of_characters_in_most_common_2grams", 0.2, "there is no column .*did you mean"),
        ("c4_has_lorem_ipsum", 1, "needs a number, but column 'c4_has_lorem_ipsum' holds boolean"),
    ):
        with pytest.raises(RecipeError, match=match):
            load(tmp_path, recipe(tmp_path, [rule(column, ">", value)]))
    page = small.store.storage.read(small.manifest("report/all").object("report.md").path).decode()
    assert "web: symbols" in page, "a rule that dropped nothing"


# B
def test_b_fewest_words_and_duplicates_go_together(workers: Workers, tmp_path: Path) -> None:
    """B: in the toolkit `min_words` above 0 turns deduplication off: no duplicate is flagged, with exit code 0."""
    texts = passages()[:6]
    documents = [record(f"d{i}", text) for i, text in enumerate([*texts, *texts, "Too few words.", "Too few words."])]
    write_jsonl(tmp_path / "web" / "a.jsonl", documents)
    kept = {}
    for least in (0, 20):
        data = recipe(tmp_path, [rule("gopher_word_count", "<", least)])
        store, done = run(tmp_path, workers, data, "mixture")
        dropped = done["near-duplicates/all"].manifest.ledger.dropped
        kept[least] = done["near-duplicates/all"].manifest.ledger.kept.documents
        assert dropped["exact_duplicate"].documents == (6 if least else 7)
        partners = {r["duplicate_of"] for r in rows(store, done["near-duplicates/all"]) if r["duplicate_of"]}
        assert len(partners) == dropped["exact_duplicate"].documents
    assert kept == {0: 7, 20: 6}


# C and D
def stage_after(store: ArtifactStore, folder: Path, stage: str, workers: Workers) -> Any:
    """Build a stage of the small corpus whose artifact was taken away."""
    chain = chain_of(store, load(folder, small_recipe(folder)))
    source = "all" if stage in CORPUS_STAGES else "web"
    ref = chain.ref(stage, source)
    shutil.rmtree(Path(store.uri) / ref.address)
    try:
        return build(store, chain.step(stage, source), workers)
    finally:
        assert store.find(ref) is None, "published"


READERS = [
    ("quality", "language"),
    ("selection", "quality"),
    ("selection", "pii"),
    ("near-duplicates", "selection"),
    ("near-duplicates", "signatures"),
    ("mixture", "near-duplicates"),
    ("mixing", "pii"),
    ("mixing", "near-duplicates"),
    ("tokenization", "mixing"),
    ("packing", "tokenization"),
]
"""Stage, and one of the stages whose columns it reads."""


def manifest_of(small: Run, stage: str) -> Any:
    return small.manifest(f"{stage}/{'all' if stage in CORPUS_STAGES else 'web'}")


@pytest.mark.parametrize(("reader", "read"), READERS)
def test_c_missing_attributes_stop_the_stage_that_needs_them(
    copied: tuple[Path, ArtifactStore], small: Run, workers: Workers, reader: str, read: str
) -> None:
    """C: without an attribute file the toolkit's mixer says "Done!", exit code 0: nothing filtered, nothing masked."""
    folder, store = copied
    one = next(o for o in manifest_of(small, read).objects if o.path.endswith(".parquet"))
    (Path(store.uri) / one.path).unlink()
    with pytest.raises(StorageError, match=f"{one.path}.*not there"):
        stage_after(store, folder, reader, workers)


@pytest.mark.parametrize(("reader", "read"), READERS)
def test_c_a_missing_artifact_stops_the_stage_that_needs_it(
    copied: tuple[Path, ArtifactStore], small: Run, workers: Workers, reader: str, read: str
) -> None:
    """C: a whole attribute folder that is not there means to the toolkit's mixer that no filter applies."""
    folder, store = copied
    (Path(store.uri) / manifest_of(small, read).ref.manifest_path).unlink()
    with pytest.raises(
        InputError, match=f"{reader}/.*: its input .*{read if read != 'mixing' else 'corpus'}.* is not finished"
    ):
        stage_after(store, folder, reader, workers)


@pytest.mark.parametrize(("reader", "read"), READERS[:-1])
@pytest.mark.parametrize("change", ["shorter", "longer"])
def test_d_attributes_with_other_rows_stop_the_stage_that_needs_them(
    copied: tuple[Path, ArtifactStore], small: Run, workers: Workers, reader: str, read: str, change: str
) -> None:
    """D: behind the end of a short attribute file the toolkit's mixer lets every document pass; one warning, exit code 0."""
    folder, store = copied
    one = next(o for o in manifest_of(small, read).objects if o.path.endswith(".parquet") and o.rows > 2)
    table = read_shard(store.storage, one.path)
    table = table.slice(0, one.rows - 1) if change == "shorter" else pa.concat_tables([table, table.slice(0, 1)])
    with store.storage.writer(one.path) as (handle, _):
        pq.write_table(table, handle)
    with pytest.raises(IntegrityError, match=r"\d+"):
        stage_after(store, folder, reader, workers)


# E
def cut_file(folder: Path) -> None:
    """Three files of prose, of which the second ends too early."""
    texts = passages()[:30]
    for n in range(3):
        write_jsonl(
            folder / "web" / f"{n}.jsonl.gz", [record(f"{n}-{i}", t) for i, t in enumerate(texts[10 * n : 10 * n + 10])]
        )
    path = folder / "web" / "1.jsonl.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_e_a_cut_file_publishes_nothing(workers: Workers, tmp_path: Path) -> None:
    """E: of a truncated gzip file the toolkit mixes and tokenizes what it could read, with exit code 0."""
    cut_file(tmp_path)
    with pytest.raises(InputError, match=r"1\.jsonl\.gz: gzip data is truncated: .*get the file again"):
        run(tmp_path, workers, recipe(tmp_path))
    store = ArtifactStore(str(tmp_path / "store"))
    assert {str(m.ref.kind) for m in store.finished()} == {"inventory"}


@pytest.mark.slow
def test_e_the_command_fails_for_a_cut_file(tmp_path: Path) -> None:
    """E: the toolkit's commands end with 0 after the traceback of a truncated file; `olmo run` ends with 1 and says why."""
    cut_file(tmp_path)
    load(tmp_path, recipe(tmp_path))
    words = ["run", "build-dolma", "--recipe", str(tmp_path / "recipe.yaml"), "--store", str(tmp_path / "store")]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "OLMO_"))}
    done = subprocess.run(
        [sys.executable, "-m", "flows.command.main", *words, "--workers", "1"],
        cwd=ROOT,
        env=kept | {"OLMO_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 1, done.stderr
    assert processes.carrying(OLMO_HOME=str(tmp_path / "home")) == [], "its server, too, has ended"
    assert "1.jsonl.gz: gzip data is truncated" in done.stderr + done.stdout
    assert {str(m.ref.kind) for m in ArtifactStore(str(tmp_path / "store")).finished()} == {"inventory"}


# F
def test_f_a_document_without_a_field_stops_no_thread(workers: Workers, tmp_path: Path) -> None:
    """F: one document without the key that the toolkit deduplicates by: a thread panics, a `.tmp` stays, "Done!"."""
    texts = passages()[:8]
    documents = [record(f"d{i}", text) for i, text in enumerate([*texts, *texts])]
    del documents[3]["metadata"], documents[3]["added"], documents[5]["metadata"]["url"], documents[6]["id"]
    del documents[7]["text"]
    write_jsonl(tmp_path / "web" / "a.jsonl", documents)
    store, done = run(tmp_path, workers, recipe(tmp_path, quarantine_limit=0.1), "mixture")
    ledger = done["documents/web"].manifest.ledger
    assert {k: v.documents for k, v in ledger.quarantined.items()} == {"missing_text": 1}
    found = [row["id"] for row in rows(store, done["documents/web"])]
    assert len(found) == 15 and "a.jsonl:7" in found, "an id that is missing is made from file and line"
    assert done["near-duplicates/all"].manifest.ledger.dropped["exact_duplicate"].documents == 7
    assert not [f.path for f in store.storage.walk("") if "tmp" in f.path]


# G
def test_g_a_document_longer_than_a_shard_is_packed_once(workers: Workers, tmp_path: Path) -> None:
    """G: of a document with more tokens than `max_size` the toolkit writes files without end."""
    texts = passages()
    documents = [record("long", " ".join(texts[:12])), *(record(f"d{i}", text) for i, text in enumerate(texts[12:24]))]
    write_jsonl(tmp_path / "web" / "a.jsonl", documents)
    store, done = run(tmp_path, workers, recipe(tmp_path, tokens={"shard_tokens": 500}), "report")
    packed = done["packing/all"].manifest
    total = sum(o.rows for o in packed.objects if o.key.endswith(".npy"))
    index = [
        row for o in packed.objects if o.key.endswith(".index") for row in read_shard(store.storage, o.path).to_pylist()
    ]
    longest = max(index, key=lambda row: row["length"])
    assert longest["length"] > 5 * 500 and len(packed.shards) == -(-total // 500)
    assert Counter((row["shard"], row["row"]) for row in index).most_common(1)[0][1] == 1
    assert len(index) == 13 and sum(row["length"] for row in index) == total


# H and I
@pytest.mark.parametrize("count", [1, 2, 3, 600])
def test_h_and_i_no_size_is_to_be_guessed_for_duplicates(workers: Workers, tmp_path: Path, count: int) -> None:
    """H, I: a Bloom filter given by size alone panics in the toolkit, and for 1,000 documents it makes 5,815 hashes.

    Here nothing is sized by a guess: as many permutations for one document as for a billion, and copies are found.
    """
    assert not {name for name in NearDuplicateRecipe.__dataclass_fields__ if "count" in name or "size" in name}
    shape = SignatureRecipe()
    assert shape.bands * shape.rows == 120
    texts = [f"Number {n} of {count}: the quick brown fox number {n * n} sees dog {n**3}." for n in range(count)]
    write_jsonl(tmp_path / "web" / "a.jsonl", [record(f"d{i}", text) for i, text in enumerate([*texts, texts[0]])])
    data = recipe(tmp_path, near_duplicates={"threshold": 0.95}, shard_bytes=1 << 20)
    store, done = run(tmp_path, workers, data, "mixture")
    dropped = done["near-duplicates/all"].manifest.ledger.dropped
    assert {reason: tally.documents for reason, tally in dropped.items()} == {"exact_duplicate": 1}
    signatures = [row["bands"] for row in rows(store, done["signatures/web"])]
    assert {len(bands) for bands in signatures} == {shape.bands} and signatures[0] == signatures[-1]


# J
def identical_files(folder: Path) -> None:
    """Eight files with the same texts in the same order; only ids differ, as they must within a source."""
    texts = passages(400)[:60]
    for n in range(8):
        write_jsonl(folder / "web" / f"{n}.jsonl.gz", [record(f"f{n}-{i:02d}", t) for i, t in enumerate(texts)])


def digests(done: dict[str, Built]) -> dict[str, str]:
    """Of all objects but the inventories: those note when each file was last written."""
    stages = {label: built for label, built in done.items() if not label.startswith("inventory/")}
    return {f"{label}/{o.key}": o.sha256 for label, built in stages.items() for o in built.manifest.objects}


def test_j_the_same_copy_survives_with_any_number_of_workers(tmp_path: Path) -> None:
    """J: in the toolkit seeds have no effect and threads race: other survivors in each run, and some copies leak."""
    found, survivors = [], []
    for name, count in (("one", 1), ("four", 4), ("again", 4)):
        identical_files(tmp_path / name)
        with Workers(count) as workers:
            store, done = run(tmp_path / name, workers, recipe(tmp_path / name, tokens={"shard_tokens": 4000}))
        found.append(digests(done))
        survivors.append(sorted(row["id"] for row in rows(store, done["mixing/all"])))
    assert found[0] == found[1] == found[2]
    assert survivors[0] == [f"f0-{i:02d}" for i in range(60)], "of equal copies the lowest id, each exactly once"
    assert survivors[0] == survivors[1] == survivors[2]


def test_j_a_seed_decides_the_order_of_tokens(workers: Workers, tmp_path: Path) -> None:
    """J: `--seed` of the toolkit's `tokens` changes nothing, and nothing makes two of its runs equal."""
    write_jsonl(tmp_path / "web" / "a.jsonl", [record(f"d{i}", text) for i, text in enumerate(passages()[:30])])
    ids = {}
    for seed in (1, 2):
        store, done = run(tmp_path, workers, recipe(tmp_path, seed=seed), "report")
        first = done["packing/all"].manifest.object("00000.npy")
        ids[seed] = np.frombuffer(store.storage.read(first.path), np.uint16)
    assert len(ids[1]) == len(ids[2]) and sorted(ids[1].tolist()) == sorted(ids[2].tolist())
    assert ids[1].tolist() != ids[2].tolist()


# K
def test_k_a_broken_line_is_set_aside(workers: Workers, tmp_path: Path) -> None:
    """K: one line that is no JSON ends the toolkit's whole job, and leaves a cut gzip file at the final path."""
    good = [record(f"g{i}", text) for i, text in enumerate(passages()[:20])]
    write_jsonl(tmp_path / "web" / "a.jsonl.gz", good[:10], [b'{"id": "bad", "text": "cut sho'])
    write_jsonl(tmp_path / "web" / "b.jsonl.gz", good[10:])
    with pytest.raises(QuarantineError, match="1 of 21 records were quarantined .broken_json 1"):
        run(tmp_path, workers, recipe(tmp_path, quarantine_limit=0.01))
    store = ArtifactStore(str(tmp_path / "store"))
    assert list(store.finished("documents")) == []
    _, done = run(tmp_path, workers, recipe(tmp_path, quarantine_limit=0.05), "mixture")
    assert [r["id"] for r in sorted(rows(store, done["documents/web"]), key=lambda r: int(r["id"][1:]))] == [
        r["id"] for r in good
    ]
    (aside,) = (o for o in done["documents/web"].manifest.objects if o.meta.get("role") == "quarantine")
    (row,) = read_shard(store.storage, aside.path).to_pylist()
    assert (row["file"], row["position"], row["reason"]) == ("a.jsonl.gz", 11, "broken_json")
    for built in done.values():
        assert store.verify(built.ref) == []


# L
def test_l_lines_are_removed_where_they_are(workers: Workers, tmp_path: Path) -> None:
    """L: with a separator of two characters, or text that is longer in lower case, the toolkit removes shifted pieces."""
    keep = [
        "İstanbul’da hava güzel, değil mi? Evet.",
        "“Straße”, 日本語, 👩‍👩‍👧 – e\u0301 ends so.",
        "ŒUVRE ﬁn \u2028 inside. It stays!",
    ]
    cut = [
        "İİİİ no stop at the end of this line",
        "日本語のテキスト、句点なし",
        "👩‍👩‍👧 and a few more words, none a stop",
    ]
    prose = [" ".join(text.split()).rstrip(".") + "." for text in passages()[:3]]
    lines = [line for pair in zip(keep, cut, strict=True) for line in pair]
    documents = [
        record(f"{n}", separator.join([prose[n], *lines, "An end."]))
        for n, separator in enumerate(("\n", "\n\n", "\n\u3000\n"))
    ]
    write_jsonl(tmp_path / "web" / "a.jsonl", documents)
    span = "c4_lines_with_no_ending_punctuation_spans"
    data = recipe(tmp_path, mixing={"min_bytes": 1, "remove": [{"column": span}]})
    store, done = run(tmp_path, workers, data, "tokenization")
    mixed = {row["id"]: row["text"] for row in rows(store, done["mixing/all"])}
    for one in documents:
        whole = one["text"].split("\n")
        staying = [
            line + "\n" * (n < len(whole) - 1)
            for n, line in enumerate(whole)
            if line.strip().endswith((".", "?", "!", '"'))
        ]
        assert mixed[one["id"]] == "".join(staying)
        assert all(line in mixed[one["id"]] for line in keep) and not any(line in mixed[one["id"]] for line in cut)
    for one, spans in zip(rows(store, done["documents/web"]), rows(store, done["quality/web"]), strict=True):
        raw = one["text"].encode()
        pieces = [raw[s["start"] : s["end"]].decode() for s in spans[span]]
        assert [piece for piece in pieces if piece.strip()] == [line + "\n" for line in cut]
