"""Tokenizer files for tests: one of OLMo's structure, trained here, so that tests need no download."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

END_OF_TEXT, PADDING = "<|endoftext|>", "<|padding|>"
MARKS = ("|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||", "|||IP_ADDRESS|||", "|||IP")
"""OLMo's three, and one that is the beginning of another."""
LONGEST_RUN = 24


def real_texts(limit: int) -> Iterator[str]:
    """Yield package metadata (prose) and standard library sources (code) of this installation, in turn, to `limit`."""
    prose = (str(metadata) for package in distributions() if (metadata := package.read_text("METADATA")))
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    code = (path.read_text("utf-8", errors="replace") for path in sorted(stdlib.glob("*.py")))
    seen = 0
    for pair in zip(prose, code, strict=False):
        for text in pair:
            yield text[:40_000]
            seen += min(len(text), 40_000)
        if seen > limit:
            return


def write_tokenizer(path: Path, tokens: int = 3000) -> Path:
    """Train a byte-level tokenizer of OLMo's structure and write it as a tokenizer.json."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=tokens, special_tokens=[PADDING], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(real_texts(600_000), trainer)
    tokenizer.add_tokens([" " * length for length in range(LONGEST_RUN, 1, -1)])
    tokenizer.add_tokens(list(MARKS))
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.save(str(path))
    return path


def changed_copy(path: Path, target: Path, **changes: Any) -> Path:
    """Write a copy of a tokenizer.json; a key is a path in it with `__` for each step, such as model__dropout."""
    description = json.loads(path.read_text("utf-8"))
    for key, value in changes.items():
        *steps, last = key.split("__")
        place = description
        for step in steps:
            place = place[int(step) if step.lstrip("-").isdigit() else step]
        place[int(last) if last.lstrip("-").isdigit() else last] = value
    target.write_text(json.dumps(description), "utf-8")
    return target
