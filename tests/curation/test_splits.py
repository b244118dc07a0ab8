"""The hash rule of held-out splits: what it depends on, and what it does not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.curation.corpus_recipe import CorpusRecipe, load_recipe
from olmo_core.curation.splits import HeldOut, check_held_out, held_out_below, numbers, refuse_held_out, split_of
from olmo_core.errors import InputError, RecipeError
from olmo_core.recipe import LATER, canonical

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def number(source: str, identifier: str) -> float:
    """The rule as docs/held-out.md gives it."""
    key = hashlib.blake2b(b"0\0held-out", digest_size=32).digest()
    digest = hashlib.blake2b(f"{source}\0{identifier}".encode(), digest_size=8, key=key).digest()
    return (int.from_bytes(digest, "little") >> 11) / 2**53


@given(NAMES, st.lists(NAMES, max_size=20))
def test_the_number_is_that_of_source_and_id_alone(source: str, ids: list[str]) -> None:
    assert numbers(source, ids).tolist() == [number(source, i) for i in ids]


def test_the_numbers_of_today_are_those_of_ever() -> None:
    """A constant here is the promise that no release moves a held-out document into training."""
    assert numbers("wiki", ["w0-0", "", "日本語"]).tolist() == EVER


EVER = [0.11249279778267973, 0.6672263171764055, 0.21086732656353657]

FRACTIONS = st.lists(st.floats(0.0001, 0.02), min_size=1, max_size=4)


@given(FRACTIONS, st.lists(st.floats(0, 1, exclude_max=True), max_size=50))
def test_splits_lie_one_after_the_other_and_never_overlap(parts: list[float], values: list[float]) -> None:
    splits = [HeldOut(name=f"s{i}", fraction=f) for i, f in enumerate(parts)]
    found = split_of(np.array(values), splits)
    for value, split in zip(values, found.tolist(), strict=True):
        assert (split >= 0) == (value < held_out_below(splits))
        if split >= 0:
            below, above = (held_out_below(splits[:split]) if split else 0.0), held_out_below(splits[: split + 1])
            assert below <= value < above


@given(FRACTIONS, st.floats(0.0001, 0.02), st.lists(st.floats(0, 0.2), max_size=50))
def test_a_further_split_takes_from_training_only(parts: list[float], more: float, values: list[float]) -> None:
    splits = [HeldOut(name=f"s{i}", fraction=f) for i, f in enumerate(parts)]
    before = split_of(np.array(values), splits)
    after = split_of(np.array(values), [*splits, HeldOut(name="more", fraction=more)])
    assert all(b == a for b, a in zip(before.tolist(), after.tolist(), strict=True) if b >= 0)


def test_dividing_a_split_holds_out_the_same_documents() -> None:
    one = [HeldOut(name="a", fraction=0.1)]
    ten = [HeldOut(name=f"a{i}", fraction=0.01) for i in range(10)]
    assert held_out_below(one) == held_out_below(ten) == 0.1


def test_about_the_fraction_is_held_out() -> None:
    held = split_of(numbers("web", (str(i) for i in range(100_000))), [HeldOut(name="v", fraction=0.005)]) == 0
    assert abs(held.mean() - 0.005) < 5 * (0.005 * 0.995 / 100_000) ** 0.5


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([("Validation", 0.01)], "held-out split 'Validation': use lower-case"),
        ([("train", 0.01)], "held-out split 'train': the name is taken"),
        ([("web", 0.01)], "held-out split 'web': the name is taken"),
        ([("a", 0.01), ("a", 0.01)], "held-out split 'a': the name is taken"),
        ([("a", 0.0)], "held-out split a: fraction 0.0"),
        ([("a", 1.5)], "held-out split a: fraction 1.5"),
        ([("a", 0.06), ("b", 0.06)], "0.12 of all documents in all; hold out at most 0.1"),
    ],
)
def test_wrong_splits_are_refused(splits: list[tuple[str, float]], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_held_out([HeldOut(name=n, fraction=f) for n, f in splits], ["web"])


def manifest(**recipe: str) -> Manifest:
    ref = ArtifactRef(kind=Kind.TOKENS, name="small-validation", fingerprint="0" * 64)
    return Manifest(
        ref=ref, stage="packing", version=1, recipe=recipe, inputs={}, attempt="", shards=(), ledger=Ledger()
    )


def test_what_is_held_out_is_refused_by_what_trains() -> None:
    refuse_held_out(manifest())
    refuse_held_out(manifest(split="train"))
    with pytest.raises(InputError, match="small-validation/0{12} is the held-out split 'validation': nothing may be"):
        refuse_held_out(manifest(split="validation"))


def test_a_recipe_without_splits_is_the_recipe_that_it_was() -> None:
    """Fields that came later change no fingerprint where they are not used."""
    recipe = load_recipe("quickstart")
    plain = CorpusRecipe(name="x", sources=recipe.sources, content=recipe.content)
    assert "held_out" not in canonical(plain)
    assert "held_out" in canonical(CorpusRecipe(**{**plain.__dict__, "held_out": (HeldOut(name="v", fraction=0.1),)}))


@dataclass(frozen=True, kw_only=True)
class _Toy:
    old: int = 1
    new: tuple[int, ...] = field(default=(), metadata=LATER)


def test_later_fields_are_canonical_unless_default() -> None:
    assert canonical(_Toy()) == {"old": 1}
    assert canonical(_Toy(new=(2,))) == {"old": 1, "new": [2]}
