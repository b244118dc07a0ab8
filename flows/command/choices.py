"""Options that several subcommands share: which recipe, which store, which overrides."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from flows.command.project import find_project
from flows.command.usage import between, whole
from olmo_core.artifacts.ref import check_name
from olmo_core.artifacts.store import ArtifactStore, parse_address
from olmo_core.curation.chain import ALL_STAGES
from olmo_core.curation.corpus_recipe import Overrides
from olmo_core.errors import RecipeError, StorageError

OVERRIDES = ("name", "seed", "language_threshold", "near_duplicate_jaccard", "max_bytes", "sample", "limit")
"""Options of `add_recipe` that change the recipe of a corpus."""


def address(text: str) -> str:
    """Return the name of an artifact when it has the form of one."""
    return _checked(text, parse_address)


def stage(text: str) -> str:
    """Return `stage` or `stage/source` when there is such a stage."""
    stages = ALL_STAGES
    if text.partition("/")[0] not in stages:
        raise argparse.ArgumentTypeError(f"there is no stage {text!r}; the stages are {', '.join(stages)}")
    return text


def name(text: str) -> str:
    """Return the name of a corpus when it can be one."""
    return _checked(text, lambda text: check_name(text, "name"))


def _checked(text: str, check: Callable[[str], object]) -> str:
    try:
        check(text)
    except RecipeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def add_store(parser: argparse.ArgumentParser) -> None:
    """Declare `--store` and `--json`."""
    parser.add_argument(
        "--store",
        metavar="URI",
        help="folder or s3://bucket/prefix (default: OLMO_STORE, else .olmo/store in the project)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Declare `--recipe` and the overrides."""
    parser.add_argument(
        "--recipe",
        default="quickstart",
        metavar="FILE",
        help="name of a recipe in deployments/recipes, or a YAML file (default: %(default)s; of train-olmo: tiny); each flow has its own",
    )
    parser.add_argument("--name", type=name, help="another name for the corpus and token artifacts")
    parser.add_argument("--seed", type=int, help="another seed for sampling and shuffling")
    parser.add_argument(
        "--language-threshold",
        type=between(0, 1),
        metavar="SCORE",
        help="drop documents of a lower language score",
    )
    parser.add_argument(
        "--near-duplicate-jaccard",
        type=between(0, 1, above=True),
        metavar="J",
        help="similarity from which on documents are near duplicates",
    )
    parser.add_argument(
        "--max-bytes", type=whole(1), metavar="N", help="text of the environment sources at most, in bytes"
    )
    parser.add_argument(
        "--sample",
        type=between(0, 1, above=True),
        metavar="FRACTION",
        help="a trial with this fraction of the documents, and an estimate for the whole",
    )
    parser.add_argument(
        "--limit",
        type=whole(1),
        metavar="N",
        help="a trial with about N documents of each source, and an estimate for the whole",
    )
    parser.add_argument(
        "--rehash", action="store_true", help="read all input files again instead of trusting size and time"
    )


def overrides(arguments: argparse.Namespace) -> Overrides:
    """Return the overrides that were given."""
    return Overrides(**{name: getattr(arguments, name) for name in OVERRIDES})


def store(arguments: argparse.Namespace) -> str:
    """Return the address of the store: `--store`, else OLMO_STORE, else the project's, from whatever directory."""
    return arguments.store or os.environ.get("OLMO_STORE") or str(find_project().home / "store")


def existing_store(arguments: argparse.Namespace) -> ArtifactStore:
    """Return the store for a command that only looks into it. Raises StorageError when there is none."""
    found = ArtifactStore(store(arguments))
    if not found.storage.is_there():
        raise StorageError(
            f"there is no store at {found.uri}; nothing was run into it yet (`olmo run build-dolma`), or --store or OLMO_STORE is wrong"
        )
    return found
