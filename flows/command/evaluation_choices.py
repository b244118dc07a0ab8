"""Options of what is evaluated, shared by `olmo evaluate` and `olmo run evaluate-olmo`: recipe, benchmarks, texts."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from flows.command import choices
from flows.command.usage import UsageError, whole
from olmo_core.evaluation.recipe import BenchmarkRecipe, DomainRecipe, EvaluationRecipe, load_evaluation_recipe


def add_arguments(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Declare the options."""
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="recipe in deployments/recipes/evaluation, or a YAML file (default: core, where no benchmarks and no texts are named)",
    )
    parser.add_argument(
        "--benchmarks",
        metavar="NAME,...",
        help="benchmarks or suites (core, all), with commas between, in place of the recipe's",
    )
    parser.add_argument("--format", choices=("catwalk", "in_loop"), help="whose prompts and primary metrics")
    parser.add_argument("--limit", type=whole(1), metavar="N", help="items of a benchmark at most (Catwalk's sample)")
    parser.add_argument("--shots", type=whole(0), metavar="N", help="worked examples before each question")
    parser.add_argument(
        "--domains",
        action="append",
        default=[],
        metavar="FOLDER",
        help="texts whose bits per byte are measured, in place of the recipe's: files domain.jsonl; repeatable",
    )
    parser.add_argument(
        "--corpus",
        action="append",
        default=[],
        type=choices.address,
        metavar="ARTIFACT",
        help="held-out split of ours as texts, e.g. corpus/quickstart-validation; repeatable",
    )
    parser.add_argument(
        "--stand-in",
        action="store_true",
        help="TruthfulQA by twelve questions made by hand, where its file cannot be had; no score",
    )
    parser.add_argument("--tokens", type=whole(1), metavar="N", help="tokens of a domain, about (Paloma: 100,000)")


def recipe(arguments: argparse.Namespace) -> EvaluationRecipe:
    """Return the recipe with what the options say otherwise, under a name that tells it from the unchanged one.

    So a quick look never takes the tags of a whole evaluation.
    """
    named = [one for one in (arguments.benchmarks or "").split(",") if one]
    texts = bool(arguments.domains or arguments.corpus)
    if arguments.recipe is not None:
        base = load_evaluation_recipe(arguments.recipe)
    elif named or texts:
        base = EvaluationRecipe(name=_name(named, texts), benchmarks=_plain(named), domains=_texts(arguments))
    else:
        base = load_evaluation_recipe("core")
    benchmarks = _plain(named) if named else base.benchmarks
    changes = {n: getattr(arguments, n) for n in ("format", "limit", "shots") if getattr(arguments, n) is not None}
    if changes and not benchmarks:
        raise UsageError(
            f"--{', --'.join(changes)}: there are no benchmarks in {base.name}; name some with --benchmarks"
        )
    benchmarks = tuple(replace(one, **changes) for one in benchmarks)
    domains = _texts(arguments) if texts else base.domains
    if arguments.tokens is not None:
        if not domains:
            raise UsageError("--tokens: there are no texts; name some with --domains or --corpus")
        domains = tuple(replace(one, tokens=arguments.tokens) for one in domains)
    stand_in = arguments.stand_in or base.stand_in
    if (benchmarks, domains, stand_in) == (base.benchmarks, base.domains, base.stand_in):
        return base
    added = [str(value).replace("_", "-") if name == "format" else f"{name}{value}" for name, value in changes.items()]
    added += ["-".join(named)] if named and arguments.recipe is not None else []
    added += ["texts"] if texts and arguments.recipe is not None else []
    added += ["stand-in"] if stand_in and not base.stand_in else []
    added += [f"tokens{arguments.tokens}"] if arguments.tokens is not None else []
    return replace(base, name="-".join([base.name, *added]), benchmarks=benchmarks, domains=domains, stand_in=stand_in)


def _name(named: list[str], texts: bool) -> str:
    words = [one.replace("_", "-") for one in named[:3]] + ([f"{len(named) - 3}-more"] if len(named) > 3 else [])
    return "-".join([*words, *(["texts"] if texts else [])])


def _plain(named: list[str]) -> tuple[BenchmarkRecipe, ...]:
    return tuple(BenchmarkRecipe(name=one) for one in named)


def _texts(arguments: argparse.Namespace) -> tuple[DomainRecipe, ...]:
    folders = [DomainRecipe(name=_slug(Path(one.rstrip("/")).name), folder=one) for one in arguments.domains]
    return (
        *folders,
        *(DomainRecipe(name=_slug(one.split("/")[1].split("@")[0]), corpus=one) for one in arguments.corpus),
    )


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text.lower()).strip("._-") or "texts"
