"""Finding files: the shell's patterns, stable names, and clear errors where there is nothing to find."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmo_core.documents.dolma_jsonl import DolmaJsonlSource
from olmo_core.documents.listing import _expression, list_files
from olmo_core.documents.reader import identity, scan
from olmo_core.errors import InputError, RecipeError
from olmo_core.recipe import fingerprint

TREE = [
    "a/x1.jsonl",
    "a/x2.jsonl.gz",
    "a/deep/x1.jsonl",
    "a/deep/er/y.txt",
    "b/x1.jsonl",
    "b/.hidden.jsonl",
    ".git/x1.jsonl",
    "b/[v1].jsonl",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def names(*paths: str | Path, root: str | Path | None = None) -> list[str]:
    return [f.name for f in list_files("s", [str(p) for p in paths], None if root is None else str(root))]


@pytest.mark.parametrize(
    "pattern",
    [
        "a/*",
        "a/x?.jsonl*",
        "*/x1.jsonl",
        "**/x1.jsonl",
        "**",
        "a/**",
        "a/**/*.txt",
        "[!a]/x*",
        "a/x[12].*",
        "*/[[]v1].jsonl",
    ],
)
def test_patterns_match_what_python_glob_matches(tree: Path, pattern: str) -> None:
    expected = sorted(name for name in glob.glob(pattern, root_dir=tree, recursive=True) if (tree / name).is_file())
    assert expected
    assert names(f"{tree}/{pattern}", root=tree) == expected


@given(
    st.lists(
        st.sampled_from(
            [
                "*",
                "?",
                "**",
                "a",
                "b",
                "[ab]",
                "[!a]",
                "[a-c]",
                "a*",
                "*.b",
                ".c",
                "[]a]",
                "^",
                "\\",
            ]
        ),
        min_size=1,
        max_size=3,
    ),
    st.lists(st.text("abc.]^\\-!", min_size=1, max_size=3), min_size=1, max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_expressions_agree_with_python_glob(pattern: list[str], path: list[str]) -> None:
    import fnmatch

    def component(wanted: str, name: str) -> bool:
        hidden = name.startswith(".") and not wanted.startswith(".")
        return not hidden and fnmatch.fnmatchcase(name, wanted)

    def matches(wanted: list[str], parts: list[str]) -> bool:
        if not wanted:
            return not parts
        if wanted[0] != "**":
            return bool(parts) and component(wanted[0], parts[0]) and matches(wanted[1:], parts[1:])
        if len(wanted) == 1:
            return bool(parts) and not any(p.startswith(".") for p in parts)
        return matches(wanted[1:], parts) or (
            bool(parts) and not parts[0].startswith(".") and matches(wanted, parts[1:])
        )

    assert bool(_expression("/".join(pattern)).fullmatch("/".join(path))) == matches(pattern, path)


def test_names_are_relative_to_the_common_folder_and_sorted(tree: Path) -> None:
    assert names(tree / "b/x1.jsonl", tree / "a/*.jsonl") == [
        "a/x1.jsonl",
        "b/x1.jsonl",
    ]
    assert names(tree / "a/deep/x1.jsonl") == ["x1.jsonl"]
    assert names(tree / "a/*.jsonl", tree / "a/x1.jsonl") == ["x1.jsonl"]
    assert names("b/x*", root=tree) == ["b/x1.jsonl"]
    assert names(f"file://{tree}/b/x*") == ["x1.jsonl"]


def test_a_path_that_exists_is_taken_literally(tree: Path) -> None:
    assert names(tree / "b/[v1].jsonl") == ["[v1].jsonl"]


def test_relative_paths_begin_at_the_working_folder(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert names("a/*.jsonl") == ["x1.jsonl"]


def test_the_prefix_is_not_part_of_the_identity(tree: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    (tree / "a").rename(moved)
    here = DolmaJsonlSource(name="s", paths=(f"{moved}/**",), priority=3)
    there = DolmaJsonlSource(name="s", paths=("s3://bucket/q/*",), root="s3://bucket")
    assert [f.name for f in scan(here)] == [
        "deep/er/y.txt",
        "deep/x1.jsonl",
        "x1.jsonl",
        "x2.jsonl.gz",
    ]
    assert fingerprint(identity(here)) == fingerprint(identity(there))
    other = DolmaJsonlSource(name="s", paths=here.paths, integer_ids="stringify")
    assert fingerprint(identity(other)) != fingerprint(identity(here))


def test_symbolic_links_are_followed_but_not_in_circles(tree: Path) -> None:
    (tree / "a/deep/loop").symlink_to(tree / "a")
    (tree / "a/link").symlink_to(tree / "b")
    assert names(f"{tree}/a/**/*.jsonl", root=tree) == [
        "a/deep/x1.jsonl", "a/link/[v1].jsonl", "a/link/x1.jsonl", "a/x1.jsonl",
    ]  # fmt: skip


def test_a_dangling_link_is_an_error_only_where_it_matches(tree: Path) -> None:
    (tree / "a/gone.jsonl").symlink_to(tree / "nowhere")
    assert names(tree / "a/*.gz") == ["x2.jsonl.gz"]
    with pytest.raises(InputError, match=r"gone\.jsonl.*not there"):
        names(tree / "a/*.jsonl")


def test_a_pattern_without_match_says_what_is_there(tree: Path) -> None:
    with pytest.raises(
        InputError,
        match=rf"'s': {tree}/a/\*\.zst matches no file; {tree}/a holds x1\.jsonl, x2\.jsonl\.gz",
    ):
        names(tree / "a/*.jsonl", tree / "a/*.zst")
    with pytest.raises(InputError, match=r"z\.jsonl matches no file; .* holds x1\.jsonl"):
        names(tree / "a/z.jsonl")
    with pytest.raises(InputError, match=r"it is a folder: write .*/a/\*\* for all files"):
        names(tree / "a")


def test_a_missing_folder_says_where_the_path_ends(tree: Path) -> None:
    with pytest.raises(InputError, match=rf"there is no folder {tree}/nix/da; {tree} holds \.git, a, b"):
        names(tree / "nix/da/*.jsonl")


def test_an_unreadable_folder_is_an_error(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)  # chmod would not stop root
    assert names(tree / "a/*.jsonl") == ["x1.jsonl"]
    with pytest.raises(InputError, match=r"cannot list .*a/deep: permission denied"):
        names(tree / "a/**/*.jsonl")


def test_what_is_no_regular_file_is_an_error(tree: Path) -> None:
    os.mkfifo(tree / "a/pipe.jsonl")
    with pytest.raises(InputError, match=r"pipe\.jsonl matches but is no regular file"):
        names(tree / "a/*.jsonl")


def test_a_name_that_is_not_utf8_is_an_error(tree: Path) -> None:
    with open(os.fsencode(tree / "a") + b"/\xff.jsonl", "wb"):
        pass
    with pytest.raises(InputError, match="is not UTF-8; rename"):
        names(tree / "a/*.jsonl")


def test_recipes_that_cannot_work(tree: Path) -> None:
    with pytest.raises(RecipeError, match="paths is empty"):
        names()
    with pytest.raises(RecipeError, match="not below the root"):
        names(tree / "a/*", root=tree / "b")
    with pytest.raises(RecipeError, match="not below the root"):
        names("../b/*", root=tree / "a")
    with pytest.raises(RecipeError, match="no folder in common"):
        names("s3://one/a/*", "s3://two/a/*")
    with pytest.raises(RecipeError, match="no folder in common"):
        names("s3://one/a/*", tree / "a/*")
    with pytest.raises(RecipeError, match="source name 'a/b'"):
        scan(DolmaJsonlSource(name="a/b", paths=("x",)))
