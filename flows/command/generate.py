"""`olmo generate`: text from a checkpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flows.command import choices, tables
from flows.command.checkpoints import CHECKPOINT, tokenizer_of
from flows.command.usage import UsageError, between, whole

if TYPE_CHECKING:
    from olmo_core.model.sampling import Sampling
    from olmo_core.model.transformer import Transformer
    from olmo_core.tokens.tokenizer import Tokenizer

DESCRIPTION = """\
Let a model go on with a text, printed as it comes:

    olmo generate tiny --prompt "The whale"                         tiny: the newest checkpoint of the run tiny
    olmo generate tiny@step100-tokens0B --prompt "The whale" --temperature 0.8 --top-p 0.95 --seed 1
    olmo generate ./OLMo-1B-hf --prompt "The whale"                 a folder in Hugging Face's layout
    olmo generate tiny --prompt "" --temperature 0.8                a text of its own, from its beginning
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help=f"{CHECKPOINT}, or a Hugging Face folder",
    )
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="text to go on from, '' for one from its beginning (default: standard input); may be repeated",
    )
    parser.add_argument(
        "--max-tokens", type=whole(1), default=100, metavar="N", help="new tokens at most (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature",
        type=between(0, float("inf")),
        default=0.0,
        metavar="T",
        help="0: always the likeliest token (default); 1: as the model's probabilities are",
    )
    parser.add_argument(
        "--top-p",
        type=between(0, 1, above=True),
        metavar="P",
        help="draw from the likeliest tokens up to this probability",
    )
    parser.add_argument("--top-k", type=whole(1), metavar="K", help="draw from so many likeliest tokens")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 ... (default: %(default)s)")
    parser.add_argument("--tokenizer", metavar="FILE", help="tokenizer.json (default: the one that made the tokens)")
    choices.add_store(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    from olmo_core.model.sampling import Sampling

    sampling = Sampling(
        max_tokens=arguments.max_tokens,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        seed=arguments.seed,
    )
    prompts = arguments.prompt or [_standard_input()]
    model, tokenizer = _load(arguments)
    if arguments.json or len(prompts) > 1:
        _batch(model, tokenizer, prompts, sampling, arguments.json)
    else:
        _stream(model, tokenizer, prompts[0], sampling)
    return 0


def _standard_input() -> str:
    if sys.stdin.isatty():
        print("the text to go on from, then Ctrl-D (or give --prompt):", file=sys.stderr, flush=True)
    if text := sys.stdin.read():
        return text
    raise UsageError(
        "nothing came from standard input; give --prompt TEXT, or --prompt '' for a text from its beginning"
    )


def _load(arguments: argparse.Namespace) -> tuple[Transformer, Tokenizer]:
    """Return model and tokenizer; UsageError where they do not belong together."""
    from olmo_core.model.device import inference_device
    from olmo_core.tokens.tokenizer import Tokenizer

    device, dtype = inference_device(arguments.device)
    folder, path = Path(arguments.checkpoint), arguments.tokenizer
    if (folder / "config.json").is_file():
        from olmo_core.model.hugging_face import load_hugging_face

        model = load_hugging_face(folder, device, dtype)
        path = path or folder / "tokenizer.json"
    else:
        from olmo_core.train.checkpoint_read import load_model
        from olmo_core.train.inspection import resolve_checkpoint

        store = choices.existing_store(arguments)
        manifest = resolve_checkpoint(store, arguments.checkpoint)
        path = path or tokenizer_of(store, manifest)
        model = load_model(store, manifest.ref, device, dtype)
    tokenizer = Tokenizer.from_file(path, engine="library")
    recipe = model.recipe
    if tokenizer.vocabulary_size > recipe.vocabulary or tokenizer.end_of_text_id != recipe.end_of_text_id:
        raise UsageError(
            f"the tokenizer {path} has {tokenizer.vocabulary_size:,} ids and ends a text with {tokenizer.end_of_text_id}, "
            f"the model has {recipe.vocabulary:,} and {recipe.end_of_text_id}; give the one it was trained with: --tokenizer"
        )
    return model, tokenizer


def _encode(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    """Ids of each prompt; an empty one begins as a document does, after the end of another."""
    import pyarrow as pa

    ids, offsets = tokenizer.encode(pa.array(texts, pa.large_string()))
    rows = [ids[a:b].tolist() for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    return [row or [tokenizer.end_of_text_id] for row in rows]


def _stream(model: Transformer, tokenizer: Tokenizer, prompt: str, sampling: Sampling) -> None:
    from olmo_core.model.generation import stream
    from olmo_core.tokens.text_stream import TextStream

    text = TextStream(tokenizer.decode)
    print(prompt, end="", flush=True)
    for (token,) in stream(model, _encode(tokenizer, [prompt]), sampling):
        if token is not None and token != tokenizer.end_of_text_id:
            print(text.push(token), end="", flush=True)
    print(text.rest())


def _batch(model: Transformer, tokenizer: Tokenizer, prompts: list[str], sampling: Sampling, as_json: bool) -> None:
    from olmo_core.model.generation import complete

    found = []
    for prompt, ids in zip(prompts, complete(model, _encode(tokenizer, prompts), sampling), strict=True):
        ended = ids[-1] == tokenizer.end_of_text_id
        text = tokenizer.decode(ids[:-1] if ended else ids)
        found.append({"prompt": prompt, "text": text, "tokens": ids, "stopped": "end of text" if ended else "length"})
    if as_json:
        tables.show_json(found)
        return
    print("\n\n".join(f"{one['prompt']}{one['text']}" for one in found))
