"""`olmo export hf`: a checkpoint as a folder that transformers reads."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.command import choices, tables
from flows.command.checkpoints import CHECKPOINT, tokenizer_of
from flows.command.usage import between
from olmo_core.report.markdown import size

TYPES = ("float32", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of this format."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help=CHECKPOINT)
    parser.add_argument("--to", required=True, metavar="FOLDER", type=Path, help="new or empty folder")
    parser.add_argument("--dtype", choices=TYPES, default=TYPES[0], help="of the weights (default: %(default)s)")
    parser.add_argument(
        "--shard-gb",
        type=between(0, float("inf"), above=True),
        default=2.0,
        metavar="GB",
        help="largest file, and about the memory that is taken (default: %(default)s)",
    )
    parser.add_argument(
        "--tokenizer", metavar="FILE", type=Path, help="tokenizer.json (default: the one that made the tokens)"
    )
    choices.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    from olmo_core.model.hugging_face import export_hugging_face
    from olmo_core.train.checkpoint_read import model_recipe, model_source
    from olmo_core.train.inspection import resolve_checkpoint

    store = choices.existing_store(arguments)
    manifest = resolve_checkpoint(store, arguments.checkpoint)
    done = export_hugging_face(
        model_recipe(manifest),
        model_source(store, manifest),
        arguments.to,
        tokenizer=arguments.tokenizer or tokenizer_of(store, manifest),
        dtype=arguments.dtype,
        shard_bytes=int(arguments.shard_gb * 1e9),
    )
    if arguments.json:
        values = {"export": str(done.folder), "checkpoint": str(manifest.ref), "bytes": done.bytes}
        tables.show_json({**values, "logit_difference": done.difference})
        return 0
    print(f"{manifest.ref}\nexport  {done.folder}  {size(done.bytes)}")
    if done.difference is None:
        print("logits not compared: transformers is not installed")
    else:
        print(f"logits of transformers differ from ours by {done.difference:g} at most")
    return 0
