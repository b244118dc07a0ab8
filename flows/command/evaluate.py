"""`olmo evaluate`: models scored in this process, with progress, and a table that says how sure each number is."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flows.command import choices, evaluation_choices, tables
from flows.command.signals import resumable
from flows.command.usage import whole
from olmo_core.artifacts.store import ArtifactStore

if TYPE_CHECKING:
    from olmo_core.report.evaluation.facts import Facts
    from olmo_core.report.evaluation.rows import Table

DESCRIPTION = """\
Score checkpoints or Hugging Face models on benchmarks and texts. What was scored before is reused: whole evaluations from
the store, single answers from a cache that knows models by their weights. A model is checkpoint/tiny (its newest),
checkpoint/tiny@step100-tokens0B, a pattern (checkpoint/tiny@step*), or a folder with a Hugging Face model.

  olmo evaluate checkpoint/tiny --benchmarks core --limit 100
  olmo evaluate 'checkpoint/tiny@step*' --recipe tiny --report
"""
LEGEND = """\
* primary metric. Intervals are 95%. guess: one choice as likely as another; majority: always the same place. Cut: the
beginning of the question did not fit. Ties are split. What failed is counted and never scored. not resolved: these items
cannot tell whether there is a difference; it does not mean equal. docs/evaluation.md says how to read the numbers."""
_QUIET = 10.0
"""Seconds between two lines about the same model, at least, where standard error is no terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("model", nargs="+", metavar="MODEL", help="checkpoint, pattern of checkpoints, or folder")
    evaluation_choices.add_arguments(parser)
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json or asset (default: the model's own)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.add_argument("--batch-tokens", type=whole(1), metavar="N", help="tokens of a batch")
    parser.add_argument(
        "--report", action="store_true", help="write a report too: `olmo report evaluation NAME` shows it"
    )
    choices.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code: 1 where items could not be scored. SIGTERM and SIGHUP end it by that signal."""
    with resumable("olmo evaluate", arguments.words, "what is scored is kept"):
        return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    recipe = evaluation_choices.recipe(arguments)
    from olmo_core.evaluation.compare import read_evaluation
    from olmo_core.evaluation.resources import ScoringResources
    from olmo_core.evaluation.run import evaluate
    from olmo_core.evaluation.targets import find_targets
    from olmo_core.report.evaluation.facts import facts_of

    store = ArtifactStore(choices.store(arguments))
    targets = find_targets(store, arguments.model)
    resources = ScoringResources(
        device=arguments.device, batch_tokens=arguments.batch_tokens, tokenizer=arguments.tokenizer
    )
    found, reused = [], []
    for number, target in enumerate(targets, start=1):
        progress = _Progress(f"{number} of {len(targets)}: {target.label}", shown=not arguments.json)
        try:
            built = evaluate(store, recipe, target, resources, progress=progress)
        finally:
            progress.clear()
        progress.done(built.reused)
        found.append(read_evaluation(store, built.manifest, target.label))
        reused.append(built.reused)
    facts = facts_of(recipe.name, found)
    page = _report(store, facts) if arguments.report else None
    failed = sum(int(result["failed"]) for one in found for result in one.results.values())
    if arguments.json:
        tables.show_json(_json(facts, reused, page))
    else:
        _show(facts, reused)
        if page:
            print(f"report      {page['name']}: olmo report evaluation {page['name']} --open")
    if failed:
        print(f"olmo evaluate: {failed:,} items or documents could not be scored", file=sys.stderr)
    return 1 if failed else 0


def _report(store: ArtifactStore, facts: Facts) -> dict[str, str]:
    from olmo_core.evaluation import reporting

    manifests = [one.manifest for one in facts.evaluations]
    refs = [one.ref for one in manifests]
    built = reporting.build_report(
        store,
        refs,
        reporting.labels_of(store, manifests),
        contaminated=reporting.contaminated_items(store, refs),
    )
    return {"name": built.ref.name.removeprefix("evaluation-"), "report": str(built.ref)}


class _Progress:
    """How far the scoring of one model is, on standard error: shard, requests, time left.

    On a terminal one line that is written over; elsewhere a line at the beginning, every _QUIET seconds, and at the end.
    """

    def __init__(self, label: str, shown: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._label, self._shown, self._clock = label, shown, clock
        self._terminal = sys.stderr.isatty()
        self._shard, self._first, self._written = "", 0, False
        self._start = self._began = self._told = clock()
        self._tell("")

    def __call__(self, shard: str, done: int, total: int) -> None:
        """Take what the scorer tells."""
        now = self._clock()
        if shard != self._shard:
            self._shard, self._began, self._first = shard, now, done
        pause = 0.2 if self._terminal else _QUIET
        if now - self._told < pause and not (self._terminal and done == total):
            return
        self._told = now
        rate = (done - self._first) / max(now - self._began, 1e-3)
        left = f", about {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
        self._tell(f"  {shard}: {done:,} of {total:,} requests{left}")

    def clear(self) -> None:
        """Take the terminal's line away."""
        if self._written and self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def done(self, reused: bool) -> None:
        """Tell, where no line is written over, that the model is evaluated."""
        if not self._terminal:
            self._tell(f"  {'reused' if reused else 'done'}, {self._clock() - self._start:.0f} s")

    def _tell(self, text: str) -> None:
        if self._shown:
            self._written = True
            line = f"evaluating {self._label}{text}"
            print(
                f"\r\x1b[K{line}" if self._terminal else line,
                end="" if self._terminal else "\n",
                file=sys.stderr,
                flush=True,
            )


def _show(facts: Facts, reused: Sequence[bool]) -> None:
    from olmo_core.report.evaluation import rows

    many = len(facts.evaluations) > 1
    if facts.keys("benchmark"):
        show(rows.score_rows(facts) if many else rows.benchmark_rows(facts.last))
        print()
    if facts.keys("domains"):
        print("bits per byte")
        show(rows.domain_rows(facts))
        print()
    if many:
        if (counted := rows.counted_rows(facts)).rows:
            print("counted, not scored")
            show(counted)
            print()
        print("from each to the next, on the same items")
        show(
            rows.change_rows(
                facts.changes, {key: facts.result(key) for one in facts.evaluations for key in one.results}
            )
        )
        print()
    print(LEGEND)
    print()
    for one, old in zip(facts.evaluations, reused, strict=True):
        print(f"evaluation  {one.manifest.ref}{'  (reused)' if old else ''}")


def show(table: Table) -> None:
    """Print a table whose cells are text: names to the left, numbers to the right."""
    cells = [list(table.header), *[list(row) for row in table.rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.header))]
    for row in cells:
        aligned = [
            v.ljust(w) if i < table.left else v.rjust(w) for i, (v, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(aligned).rstrip())


def _json(facts: Facts, reused: Sequence[bool], page: dict[str, str] | None) -> dict[str, Any]:
    from olmo_core.evaluation.results import plain

    evaluations = [
        {
            "label": one.label,
            "evaluation": str(one.manifest.ref),
            "reused": old,
            "step": one.step,
            "tokens": one.tokens,
            "results": one.results,
        }
        for one, old in zip(facts.evaluations, reused, strict=True)
    ]
    changes = [
        {
            **{name: getattr(one, name) for name in ("benchmark", "metric", "first", "second", "p", "verdict")},
            "difference": one.difference.interval.to_json(),
            "detectable": one.difference.detectable,
        }
        for one in facts.changes
    ]
    made: dict[str, Any] = plain({"evaluations": evaluations, "changes": changes, "report": page})
    return made
