"""Resolution of exact and near duplicates, against exact Jaccard and a greedy rule in plain Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.curation import signatures
from olmo_core.curation.near_duplicates import EXACT, KINDS, NEAR, NearDuplicateRecipe, Resolution, resolve
from olmo_core.curation.signatures import SignatureRecipe, SignedDocuments
from olmo_core.errors import IntegrityError, RecipeError, StorageError
from tests.oracles.near_duplicate_corpus import all_pairs, edited, jaccard, real_texts, shingles

GOLDEN = [14329784180738984165, 11097904742054929377]

RECIPE = NearDuplicateRecipe()


class Shelf:
    """Texts to fetch, and a note of what was asked for."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self.asked: list[npt.NDArray[np.int64]] = []

    def __call__(self, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        self.asked.append(rows)
        return pa.array([self.texts[row] for row in rows], pa.large_string())


def signed(texts: list[str], rank: Any = None, recipe: SignatureRecipe = RECIPE.signature) -> SignedDocuments:
    columns = signatures.tag(pa.array(texts, pa.large_string()), recipe)
    return SignedDocuments.from_columns(columns, np.arange(len(texts)) if rank is None else np.asarray(rank))


def resolved(texts: list[str], rank: Any = None, recipe: NearDuplicateRecipe = RECIPE, **options: Any) -> Resolution:
    return resolve(signed(texts, rank, recipe.signature), Shelf(texts), recipe, **options)


def numbered(first: int, last: int, prefix: str = "w") -> str:
    return " ".join(f"{prefix}{i}" for i in range(first, last))


def same(left: Resolution, right: Resolution) -> bool:
    arrays = ("keep", "duplicate_of", "jaccard", "kind")
    counts = ("pairs", "matched", "oversized_buckets", "rows_in_oversized_buckets", "rows_beyond_references")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in arrays) and all(
        getattr(left, name) == getattr(right, name) for name in counts
    )


def greedy(
    texts: list[str], documents: SignedDocuments, recipe: NearDuplicateRecipe
) -> tuple[dict[int, int], dict[int, int], dict[str, int]]:
    """The rule of the module's docstring over lists and dicts: (duplicate -> kept, near only, counts)."""
    by_rank = sorted(range(len(texts)), key=lambda row: int(documents.rank[row]))
    head: dict[str, int] = {}
    for row in by_rank:
        head.setdefault(texts[row], row)
    heads = [row for row in by_rank if head[texts[row]] == row and shingles(texts[row])]
    rows_of: dict[tuple[int, int], list[int]] = defaultdict(list)
    for row in heads:
        for band, key in enumerate(documents.bands[row].tolist()):
            rows_of[band, key].append(row)
    oversized = [rows for rows in rows_of.values() if len(rows) > recipe.bucket_limit]
    counts = {"oversized": len(oversized), "rows": len(set().union(*oversized)), "pairs": 0, "beyond": 0}
    sets = {row: shingles(texts[row]) for row in heads}
    kept_in: dict[tuple[int, int], list[int]] = defaultdict(list)
    near: dict[int, int] = {}
    position = {row: i for i, row in enumerate(heads)}
    for row in heads:
        keys = [key for key in enumerate(documents.bands[row].tolist()) if len(rows_of[key]) > 1]
        for other in sorted({other for key in keys for other in kept_in[key]}, key=position.__getitem__):
            counts["pairs"] += 1
            if jaccard(sets[row], sets[other]) >= recipe.threshold:
                near[row] = other
                break
        else:
            beyond = False
            for key in keys:
                if len(rows_of[key]) <= recipe.bucket_limit or len(kept_in[key]) < recipe.bucket_references:
                    kept_in[key].append(row)
                else:
                    beyond = True
            counts["beyond"] += beyond
    partner = {row: near.get(head[text], head[text]) for row, text in enumerate(texts) if head[text] != row} | near
    return partner, near, counts


def assert_equals_greedy(texts: list[str], documents: SignedDocuments, recipe: NearDuplicateRecipe) -> Resolution:
    found = resolve(documents, Shelf(texts), recipe)
    partner, near, counts = greedy(texts, documents, recipe)
    assert {int(row): int(found.duplicate_of[row]) for row in np.flatnonzero(~found.keep)} == partner
    assert found.matched == len(near)
    assert found.pairs == counts["pairs"] == found.matched + found.rejected
    assert (found.oversized_buckets, found.rows_in_oversized_buckets) == (counts["oversized"], counts["rows"])
    assert found.rows_beyond_references == counts["beyond"]
    return found


@cache
def sample() -> tuple[list[str], npt.NDArray[np.int64]]:
    """About 900 real texts, edited copies over all similarities and some exact copies, with shuffled ranks."""
    base = real_texts(500, longest=6000)
    copies = [edited(base[i % len(base)], 0.3 + 0.7 * i / 350, i) for i in range(350)]
    texts = base + copies + base[:40] + copies[-10:]
    return texts, np.random.default_rng(5).permutation(len(texts))


def test_recall_and_precision_on_real_text() -> None:
    texts, rank = sample()
    sets = [shingles(text) for text in texts]
    pairs, similarity = all_pairs(sets)
    documents = signed(texts, rank)
    found = resolve(documents, Shelf(texts), RECIPE)

    close = similarity >= RECIPE.threshold
    assert close.sum() > 120
    near = pairs[close]
    met = np.any(documents.bands[near[:, 0]] == documents.bands[near[:, 1]], axis=1)
    assert np.mean(met) >= 0.95
    assert np.mean(np.all(found.keep[near], axis=1)) <= 0.05

    dropped = np.flatnonzero(~found.keep)
    partner = found.duplicate_of[dropped]
    assert found.keep[partner].all()
    assert (rank[partner] < rank[dropped]).all()
    exact = [jaccard(sets[row], sets[other]) for row, other in zip(dropped, partner, strict=True)]
    assert min(exact) >= RECIPE.threshold
    assert np.array_equal(found.jaccard[dropped], np.array(exact, np.float32))
    assert (found.kind[found.keep] == 0).all() and (found.kind[dropped] > 0).all()
    assert (found.duplicate_of[found.keep] == -1).all() and (found.jaccard[found.keep] == 0).all()
    for row in np.flatnonzero(found.kind == EXACT):
        assert texts[row] == texts[found.duplicate_of[row]]


def test_equals_the_greedy_rule_on_real_text() -> None:
    texts, rank = sample()
    assert_equals_greedy(texts, signed(texts, rank), RECIPE)
    few = NearDuplicateRecipe(threshold=0.6, bucket_limit=5, bucket_references=2)
    found = assert_equals_greedy(texts, signed(texts, rank), few)
    assert found.oversized_buckets > 0 and found.rows_beyond_references > 0


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_equals_the_greedy_rule_whatever_the_buckets(data: st.DataObject) -> None:
    """Band keys made up freely, so that every constellation of buckets and limits comes about."""
    count = data.draw(st.integers(0, 14))
    text = st.lists(st.sampled_from("abc"), max_size=7).map(" ".join)
    texts = data.draw(st.lists(text, min_size=count, max_size=count))
    keys = st.lists(st.integers(0, 2), min_size=3, max_size=3)
    bands = data.draw(st.lists(keys, min_size=count, max_size=count))
    rank = data.draw(st.permutations(range(count)))
    limit = data.draw(st.integers(2, 6))
    recipe = NearDuplicateRecipe(
        threshold=data.draw(st.sampled_from([0.2, 0.5, 0.8, 1.0])),
        bucket_limit=limit,
        bucket_references=data.draw(st.integers(1, limit)),
        signature=SignatureRecipe(bands=3),
    )
    real = signed(texts, rank, recipe.signature)
    documents = SignedDocuments(
        text_hash=real.text_hash,
        text_bytes=real.text_bytes,
        shingle_count=real.shingle_count,
        bands=np.array(bands, np.uint64).reshape(count, 3),
        rank=real.rank,
    )
    assert_equals_greedy(texts, documents, recipe)


def test_order_of_rows_and_size_of_batches_change_nothing(tmp_path: Path) -> None:
    texts, rank = sample()
    expected = resolved(texts, rank)
    assert same(expected, resolved(texts, rank, batch_bytes=1, scratch=tmp_path))
    assert list(tmp_path.iterdir()) == []
    order = np.random.default_rng(9).permutation(len(texts))
    shuffled = resolved([texts[row] for row in order], rank[order])
    assert np.array_equal(shuffled.keep, expected.keep[order])
    assert np.array_equal(shuffled.jaccard, expected.jaccard[order])
    assert np.array_equal(shuffled.kind, expected.kind[order])
    partner = np.where(shuffled.keep, -1, order[shuffled.duplicate_of])
    assert np.array_equal(partner, expected.duplicate_of[order])
    assert (shuffled.pairs, shuffled.matched) == (expected.pairs, expected.matched)


def test_a_chain_drops_only_what_repeats_a_kept_document() -> None:
    first, middle, last = numbered(0, 100), numbered(8, 108), numbered(16, 116)
    assert jaccard(shingles(first), shingles(middle)) > 0.8 > jaccard(shingles(first), shingles(last))
    assert jaccard(shingles(middle), shingles(last)) > 0.8
    found = resolved([first, middle, last])
    assert found.keep.tolist() == [True, False, True]
    assert found.duplicate_of.tolist() == [-1, 0, -1]
    found = resolved([first, middle, last], rank=[2, 1, 3])
    assert found.duplicate_of.tolist() == [1, -1, 1]


def test_the_threshold_itself_is_reached() -> None:
    left, right = numbered(0, 13), numbered(0, 12) + " other"  # 9 shingles each, 8 of 10 in common
    assert jaccard(shingles(left), shingles(right)) == 0.8
    together = NearDuplicateRecipe(signature=SignatureRecipe(bands=200, rows=2))
    assert resolved([left, right], recipe=together).jaccard.tolist() == [0, np.float32(0.8)]
    apart = NearDuplicateRecipe(threshold=0.81, signature=together.signature)
    assert resolved([left, right], recipe=apart).keep.all()


def test_copies_of_a_near_duplicate_name_the_kept_document() -> None:
    best, worse = numbered(0, 100), numbered(2, 102)
    found = resolved([worse, best, worse, best], rank=[5, 0, 1, 7])
    assert found.duplicate_of.tolist() == [1, -1, 1, 1]
    assert [KINDS[kind] for kind in found.kind] == ["near", "", "near", "exact"]
    assert found.jaccard[0] == found.jaccard[2] < 1 == found.jaccard[3]


def test_texts_without_words_are_exact_copies_or_nothing() -> None:
    found = resolved(["", "...", "", "!!", "\0", "..."])
    assert found.kind.tolist() == [0, 0, EXACT, 0, 0, EXACT]
    assert found.pairs == 0


def test_short_texts_and_other_spellings_are_near() -> None:
    found = resolved(["Hello, WORLD", "hello world", "hello there", "Héllo world\0"])
    assert found.kind.tolist() == [0, NEAR, 0, NEAR]
    assert found.jaccard.tolist() == [0, 1, 0, 1]


def test_only_candidates_are_fetched_once_in_order_and_within_bounds() -> None:
    texts, rank = sample()
    documents = signed(texts, rank)
    shelf = Shelf(texts)
    steps: list[tuple[int, int]] = []
    resolve(documents, shelf, RECIPE, progress=lambda done, total: steps.append((done, total)), batch_bytes=30_000)
    asked = np.concatenate(shelf.asked)
    assert (np.diff(asked) > 0).all() and len(asked) < len(texts)
    assert len(shelf.asked) > 5
    assert all(len(rows) == 1 or documents.text_bytes[rows].sum() <= 30_000 for rows in shelf.asked)
    done = [one for one, _ in steps]
    assert done == sorted(done) and steps[-1][0] == steps[-1][1] == 2 * len(asked)


def test_a_big_bucket_is_compared_with_its_references() -> None:
    """1,200 pages of one template with unlike bodies, some of them twice with one word changed."""
    pages = [numbered(0, 300, "menu") + " " + numbered(0, 60, f"page{i}x") for i in range(1200)]
    again = [pages[i].replace(f"page{i}x30", "other") for i in (0, 3, 1100)]
    recipe = NearDuplicateRecipe(bucket_limit=300, bucket_references=8)
    found = resolved(pages + again, recipe=recipe)
    assert found.oversized_buckets > 0
    assert found.rows_in_oversized_buckets > 1000
    assert found.rows_beyond_references > 1000
    assert found.duplicate_of[[1200, 1201]].tolist() == [0, 3]
    assert found.keep[:1200].all()
    assert found.pairs < 0.5 * resolved(pages + again).pairs


def test_other_texts_than_the_signed_are_refused() -> None:
    texts = [numbered(0, 50), numbered(1, 51)]
    with pytest.raises(IntegrityError, match="not those that were signed"):
        resolve(signed(texts), Shelf(["changed", "texts"]), RECIPE)
    with pytest.raises(IntegrityError, match="got 1"):
        resolve(signed(texts), lambda rows: pa.array(["one"], pa.large_string()), RECIPE)


def test_a_scratch_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="scratch"):
        resolved([numbered(0, 50), numbered(1, 51)], scratch=tmp_path / "missing")


def test_no_documents_and_no_candidates() -> None:
    assert len(resolved([]).keep) == 0
    assert resolved([numbered(0, 50), numbered(50, 99)]).keep.all()


def test_columns_are_null_where_kept() -> None:
    found = resolved([numbered(0, 100), numbered(0, 100), numbered(2, 102)])
    assert found.columns().to_pylist() == [
        {"keep": True, "duplicate_of": None, "jaccard": None, "kind": ""},
        {"keep": False, "duplicate_of": 0, "jaccard": 1.0, "kind": "exact"},
        {"keep": False, "duplicate_of": 0, "jaccard": pytest.approx(94 / 98), "kind": "near"},
    ]


def _wrong_recipes() -> Iterator[Any]:
    yield lambda: NearDuplicateRecipe(threshold=0.0)
    yield lambda: NearDuplicateRecipe(threshold=1.1)
    yield lambda: NearDuplicateRecipe(threshold=float("nan"))
    yield lambda: NearDuplicateRecipe(bucket_limit=1)
    yield lambda: NearDuplicateRecipe(bucket_limit=10, bucket_references=11)
    yield lambda: SignatureRecipe(bands=0)
    yield lambda: SignatureRecipe(shingle_words=65)
    yield lambda: SignatureRecipe(rows=2.0)  # type: ignore[arg-type]
    yield lambda: SignatureRecipe(seed=-1)


@pytest.mark.parametrize("make", list(_wrong_recipes()))
def test_wrong_recipes_are_refused(make: Any) -> None:
    with pytest.raises(RecipeError, match="must be"):
        make()


def test_wrong_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="unique"):
        signed(["a", "b"], rank=[1, 1])
    with pytest.raises(ValueError, match="ranks"):
        signed(["a", "b"], rank=[1])
    with pytest.raises(ValueError, match="bands"):
        resolve(signed(["a"]), Shelf(["a"]), NearDuplicateRecipe(signature=SignatureRecipe(bands=3)))


class TestSignatures:
    """`signatures.tag`."""

    def test_columns_are_those_of_the_schema(self) -> None:
        recipe = SignatureRecipe(bands=4, rows=2)
        batch = signatures.tag(pa.array(["one two", "", "…"], pa.large_string()), recipe)
        batch.validate(full=True)
        assert batch.schema == signatures.schema(recipe)
        assert batch.column("shingle_count").to_pylist() == [1, 0, 0]
        assert batch.column("text_bytes").to_pylist() == [7, 0, 3]
        assert batch.column("bands").to_pylist()[1:] == [[0] * 4] * 2
        assert batch.column("text_hash")[1].as_py().hex() == "cae66941d9efbd404e4d88758ea67670"  # BLAKE2b-128 of ""

    def test_a_signature_never_changes(self) -> None:
        """Signatures are stored: when this fails, raise `signatures.VERSION`."""
        batch = signatures.tag(
            pa.array(["The quick brown fox jumps over the lazy dog"], pa.large_string()), SignatureRecipe()
        )
        assert signatures.VERSION == 1
        assert batch.column("bands")[0].as_py()[:2] == GOLDEN

    def test_rows_do_not_depend_on_their_neighbours(self) -> None:
        texts = [*real_texts(60), "", "\0", "é"]
        array = pa.array(texts, pa.large_string())
        whole = signatures.tag(array, SignatureRecipe())
        parts = pa.Table.from_batches(
            [signatures.tag(array[i : i + 7], SignatureRecipe()) for i in range(0, len(texts), 7)]
        )
        assert parts.combine_chunks().to_batches()[0].equals(whole)

    def test_stored_columns_come_back(self, tmp_path: Path) -> None:
        texts = real_texts(50)
        batch = signatures.tag(pa.array(texts, pa.large_string()), SignatureRecipe())
        pq.write_table(pa.Table.from_batches([batch, batch]), tmp_path / "s.parquet", row_group_size=30)
        back = pq.read_table(tmp_path / "s.parquet").slice(5, 70)
        there = SignedDocuments.from_columns(back, np.arange(70))
        here = SignedDocuments.from_columns(batch, np.arange(len(texts)))
        rows = np.arange(5, 75) % len(texts)
        assert np.array_equal(there.bands, here.bands[rows])
        assert np.array_equal(there.text_hash, here.text_hash[rows])
        assert np.array_equal(there.shingle_count, here.shingle_count[rows])

    def test_probability_of_meeting(self) -> None:
        recipe = SignatureRecipe()
        assert recipe.candidate_probability(0.8) == pytest.approx(0.9977, abs=1e-4)
        assert recipe.candidate_probability(1.0) == 1.0
