"""`olmo inspect`: the documents that a training step saw, and the steps that saw a document."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from flows.command import choices, tables
from flows.command.checkpoints import CHECKPOINT
from flows.command.usage import whole
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, OlmoError
from olmo_core.train.inspection import Inspection, Sightings, newest_checkpoints, resolve_checkpoint

DESCRIPTION = """\
Say which documents were in a step of training, and which steps saw a document, from checkpoints in the store:

    olmo inspect step tiny 100            the documents of step 100 (tiny: the run's newest checkpoint)
    olmo inspect document web/d3-7        the steps of every run that saw the document
"""
_SHOWN = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="WHAT")
    step = actions.add_parser("step", help="the documents of a step: source, id, url, position in the sequence")
    step.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    step.add_argument("number", metavar="N", type=whole(1), help="step, from 1")
    step.add_argument("--all", action="store_true", help=f"show every document, not the first {_SHOWN}")
    document = actions.add_parser("document", help="the steps that saw a document")
    document.add_argument("document", metavar="DOCUMENT_ID", help="id, or source/id")
    document.add_argument(
        "--run",
        metavar="CHECKPOINT",
        help=f"only this run, up to this checkpoint (default: the newest checkpoint of every run): {CHECKPOINT}",
    )
    document.add_argument("--all", action="store_true", help=f"show every appearance, not the first {_SHOWN}")
    for one in (step, document):
        choices.add_store(one)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    store = choices.existing_store(arguments)
    most = None if arguments.all else _SHOWN
    if arguments.action == "step":
        _step(
            Inspection(store, resolve_checkpoint(store, arguments.checkpoint)), arguments.number, arguments.json, most
        )
    else:
        _document(_sightings(store, arguments.document, arguments.run), arguments.json, most)
    return 0


def _step(inspection: Inspection, step: int, as_json: bool, most: int | None) -> None:
    pieces = inspection.step(step)
    batch = inspection.batch(step)
    about = {
        "checkpoint": str(inspection.checkpoint.ref),
        "step": step,
        "trained": step <= inspection.state.step,
        "batch": batch,
        "epoch": batch // inspection.batches.per_epoch,
        "instances": inspection.recipe.batch,
    }
    if as_json:
        tables.show_json({**about, "documents": [piece.to_json() for piece in pieces]})
        return
    when = "" if about["trained"] else f", not trained yet: the checkpoint is of step {inspection.state.step}"
    print(
        f"{about['checkpoint']}, step {step}{when}: batch {batch} (epoch {about['epoch']}), {len(pieces):,} pieces of documents"
    )
    rows = [
        (
            p.row,
            p.position,
            p.tokens,
            f"{p.begins:,} of {'?' if p.length is None else f'{p.length:,}'}",
            f"{p.file}:{p.first}",
            p.source,
            p.id,
            p.url,
        )
        for p in pieces[:most]
    ]
    tables.show(rows, ("row", "position", "tokens", "from token", "file", "source", "id", "url"), left=0)
    _more(len(pieces), most)


def _sightings(store: ArtifactStore, document: str, checkpoint: str | None) -> list[tuple[Inspection, Sightings]]:
    """Return what each run saw, leaving out runs whose tokens do not have the document, and, with a word on it, those that
    cannot be asked: their tokens are gone, or not what they were. Raises InputError when none is left.
    """
    if checkpoint is not None:
        inspection = Inspection(store, resolve_checkpoint(store, checkpoint))
        return [(inspection, inspection.document(document))]
    found: list[tuple[Inspection, Sightings]] = []
    reasons: list[str] = []
    for manifest in newest_checkpoints(store):
        try:
            inspection = Inspection(store, manifest)
            found.append((inspection, inspection.document(document)))
        except InputError as error:
            reasons.append(f"{manifest.ref.name}: {error}")
        except OlmoError as error:
            reasons.append(f"{manifest.ref} cannot be asked: {error}")
            print(reasons[-1], file=sys.stderr)
    if not found:
        raise InputError(
            "; ".join(reasons) or f"there are no checkpoints in {store.uri}, so nothing was trained on anything"
        )
    return found


def _document(found: list[tuple[Inspection, Sightings]], as_json: bool, most: int | None) -> None:
    if as_json:
        values: list[dict[str, Any]] = [
            {"checkpoint": str(i.checkpoint.ref), "at_step": i.state.step, **seen.to_json()} for i, seen in found
        ]
        tables.show_json(values)
        return
    for inspection, seen in found:
        tails = f", {seen.tokens_in_tails:,} of them in tails that no step sees" if seen.tokens_in_tails else ""
        print(
            f"{inspection.checkpoint.ref}, up to step {inspection.state.step:,}: {len(seen.steps):,} steps saw {seen.document} "
            f"({seen.tokens:,} tokens{tails})"
        )
        rows = [
            (
                one.epoch,
                "left out" if one.step is None else one.step,
                one.piece.row,
                one.piece.position,
                one.piece.tokens,
                one.piece.begins,
                one.piece.copy,
            )
            for one in seen.seen[:most]
        ]
        if rows:
            tables.show(rows, ("epoch", "step", "row", "position", "tokens", "from token", "copy"), left=0)
        _more(len(seen.seen), most)


def _more(count: int, most: int | None) -> None:
    if most is not None and count > most:
        print(f"... and {count - most:,} more; --all shows them")
