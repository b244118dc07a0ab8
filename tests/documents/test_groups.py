"""Shard boundaries: they hang on names and sizes alone, and one more file touches one group."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.documents.files import SourceFile
from olmo_core.documents.groups import FileGroup, estimated_text_bytes, group_files
from olmo_core.errors import RecipeError

NAMES = st.text("abc/", min_size=1, max_size=6)
SIZES = st.integers(0, 150)
FILES = st.dictionaries(NAMES, SIZES, max_size=60)


def file(name: str, size: int) -> SourceFile:
    return SourceFile(name=name, url=f"/somewhere/{name}", size=size, version="1")


def files(sizes: dict[str, int]) -> list[SourceFile]:
    return [file(name, size) for name, size in sizes.items()]


def contents(groups: list[FileGroup]) -> set[tuple[str, ...]]:
    return {tuple(f.name for f in g.files) for g in groups}


@given(FILES, st.randoms())
@settings(max_examples=200, deadline=None)
def test_every_file_is_in_one_group_whatever_the_order(sizes: dict[str, int], random: object) -> None:
    groups = group_files(files(sizes), 100)
    assert sorted(f.name for g in groups for f in g.files) == sorted(sizes)
    assert len({g.key for g in groups}) == len(groups)
    assert all(len(g.files) == 1 or g.size <= 100 for g in groups)
    shuffled = files(sizes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert group_files(shuffled, 100) == groups


@given(FILES, NAMES, SIZES)
@settings(max_examples=300, deadline=None)
def test_one_more_file_changes_one_group_or_divides_it(sizes: dict[str, int], name: str, size: int) -> None:
    sizes.pop(name, None)
    before = contents(group_files(files(sizes), 100))
    after = contents(group_files(files({**sizes, name: size}), 100))
    lost, made = before - after, after - before
    assert len(lost) <= 1
    assert sorted(n for g in made for n in g) == sorted([n for g in lost for n in g] + [name])


def test_groups_of_many_small_files_are_of_a_useful_size() -> None:
    groups = group_files([file(f"part-{i:05d}.jsonl", 1000) for i in range(20_000)], 1_000_000)
    assert 20 <= len(groups) <= 40
    assert all(250_000 <= g.size <= 1_000_000 for g in groups)


def test_a_file_over_the_target_stands_alone_and_compression_counts() -> None:
    sizes = {
        "big.jsonl": 101,
        "packed.jsonl.gz": 34,
        "table.parquet": 51,
        "a.jsonl": 100,
        "b.jsonl.zst": 0,
    }
    alone = {g.files[0].name for g in group_files(files(sizes), 100) if g.key.startswith("f")}
    assert alone == {"big.jsonl", "packed.jsonl.gz", "table.parquet"}
    assert estimated_text_bytes(file("x.JSONL.GZ", 10)) == 30


def test_keys_do_not_change_by_accident() -> None:
    """Keys and members are part of stored artifacts: a change here needs a new version of the stages that use them."""
    groups = group_files([file(f"{i}.jsonl", 40) for i in range(6)] + [file("big.jsonl", 200)], 100)
    # First bytes of sha256 of the names 0 to 5, in bits: 01011100 10101011 01001111 11000111 00110111 10011011.
    assert [(g.key, [f.name for f in g.files]) for g in groups] == [
        ("b00", ["4.jsonl"]),
        ("b01", ["0.jsonl", "2.jsonl"]),
        ("b10", ["1.jsonl", "5.jsonl"]),
        ("b11", ["3.jsonl"]),
        ("fe0914f81104c9df3", ["big.jsonl"]),
    ]


def test_no_files_and_no_size() -> None:
    assert group_files([], 100) == []
    with pytest.raises(RecipeError, match="shard size: 0"):
        group_files([], 0)
