"""Options that several subcommands share: which recipe, which store, which overrides."""

from __future__ import annotations

import argparse
import os

from flows.command.project import find_project
from olmo_core.curation.corpus_recipe import Overrides


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
        help="name of a recipe in deployments/recipes, or a YAML file (default: %(default)s)",
    )
    parser.add_argument("--name", help="another name for the corpus and token artifacts")
    parser.add_argument("--seed", type=int, help="another seed for sampling and shuffling")
    parser.add_argument(
        "--language-threshold", type=float, metavar="SCORE", help="drop documents of a lower language score"
    )
    parser.add_argument(
        "--near-duplicate-jaccard",
        type=float,
        metavar="J",
        help="similarity from which on documents are near duplicates",
    )
    parser.add_argument("--max-bytes", type=int, metavar="N", help="text of the environment sources at most, in bytes")
    parser.add_argument(
        "--sample",
        type=float,
        metavar="FRACTION",
        help="a trial with this fraction of the documents, and an estimate for the whole",
    )
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="a trial with about N documents of each source, and an estimate for the whole",
    )
    parser.add_argument(
        "--rehash", action="store_true", help="read all input files again instead of trusting size and time"
    )


def overrides(arguments: argparse.Namespace) -> Overrides:
    """Return the overrides that were given."""
    names = ("name", "seed", "language_threshold", "near_duplicate_jaccard", "max_bytes", "sample", "limit")
    return Overrides(**{name: getattr(arguments, name) for name in names})


def store(arguments: argparse.Namespace) -> str:
    """Return the address of the store: `--store`, else OLMO_STORE, else the project's, from whatever directory."""
    return arguments.store or os.environ.get("OLMO_STORE") or str(find_project().home / "store")
