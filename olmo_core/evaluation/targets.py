"""Which models an evaluation is of: checkpoints by tag, list or pattern, or Hugging Face folders; found without loading them."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from olmo_core import assets
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore, parse_address
from olmo_core.errors import AssetError, InputError, RecipeError
from olmo_core.evaluation.encoder import Encoder, TextRules, end_of_text_of, rules_of
from olmo_core.evaluation.stage import Subject
from olmo_core.tokens.origin import DEFAULT, tokenization_of
from olmo_core.train.checkpoint_read import model_recipe, read_index
from olmo_core.train.checkpoint_tensors import MODEL
from olmo_core.train.run_file import step_tag

log = logging.getLogger(__name__)

_WEIGHTS = "*.safetensors"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
"""Other forms that weights come in: to read one is to run what it says."""
_OF_A_MODEL = ("*.json", _WEIGHTS)
"""What is fetched from the hub: neither pickles nor programs."""
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+\Z")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One model to evaluate."""

    label: str
    """For people: `step100-tokens0B`, or the folder's name. Of one evaluation no two are the same (`find_targets`)."""
    name: str
    """Beginning of the evaluation artifact's name: that of the run, or of the folder."""
    checkpoint: ArtifactRef | None = None
    folder: str | None = None
    """Of a Hugging Face model."""
    hub: str | None = None
    """Its id, where the hub gave it: by this another process finds the same model under the same name."""
    tag: str | None = None
    """Tag of the evaluation artifact beside `latest`: the checkpoint's `step{S}-tokens{T}B`."""


def find_targets(store: ArtifactStore, models: Sequence[str]) -> list[Target]:
    """Return the models that names mean, each once: in the order given, those of a pattern by step.

    A name is `checkpoint/run` (its tag `latest`), `checkpoint/run@tag`, `checkpoint/run@step*` (a pattern of tags; those of
    the run that saved last, and of those it goes on from),
    `checkpoint/run/fingerprint`, a folder with a Hugging Face model, or an id of the Hugging Face hub. Raises RecipeError for a name that means nothing,
    and for a pattern that no tag matches.
    """
    found: dict[str, Target] = {}
    for text in models:
        some = _checkpoints(store, text) if text.split("/")[0] in set(Kind) else [_hugging_face(store, text)]
        for one in some:
            found.setdefault(str(one.checkpoint or one.folder), one)
    if not found:
        raise RecipeError("no model to evaluate: name a checkpoint (checkpoint/tiny@step*) or a Hugging Face folder")
    return _told_apart(list(found.values()))


def _told_apart(targets: list[Target]) -> list[Target]:
    """Give models of one label another: with the run's name, and where that is one too, with the beginning of the fingerprint, or of
    the digest of the folder's path.
    """
    if len({one.name for one in targets}) > 1:
        targets = [one if one.label == one.name else replace(one, label=f"{one.name}-{one.label}") for one in targets]
    labels = [one.label for one in targets]
    return [
        replace(one, label=f"{one.label}-{_apart(one)[:6]}") if labels.count(one.label) > 1 else one for one in targets
    ]


def _apart(target: Target) -> str:
    if target.checkpoint is not None:
        return target.checkpoint.fingerprint
    return hashlib.sha256(str(target.folder).encode("utf-8", "surrogateescape")).hexdigest()


def _checkpoints(store: ArtifactStore, text: str) -> list[Target]:
    parts, tag = parse_address(text)
    if parts[0] != Kind.CHECKPOINT:
        raise RecipeError(
            f"{text!r} is of kind {parts[0]}; an evaluation is of a checkpoint, e.g. checkpoint/tiny@step*"
        )
    if not any(c in tag for c in "*?["):
        return [_target(store.manifest(store.resolve(text)))]
    tags = store.tags(parts[0], parts[1])
    matching = {name: ref for name, ref in tags.items() if fnmatch.fnmatchcase(name, tag)}
    if not matching:
        raise RecipeError(
            f"no tag of checkpoint/{parts[1]} matches {tag!r}; its tags: {', '.join(sorted(tags)) or 'none'}"
        )
    manifests = [store.manifest(ref) for ref in set(matching.values())]
    runs = runs_of(store, max(manifests, key=lambda m: m.ended))
    if others := sorted(tag for tag, ref in matching.items() if _run(store, ref) not in runs):
        log.warning(
            "%s: %s are of another run of that name; name them one by one to have them too", text, ", ".join(others)
        )
    own = [m for m in manifests if m.recipe.get("run") in runs]
    return [_target(one) for one in sorted(own, key=lambda m: (int(m.recipe["step"]), m.ref.fingerprint))]


def runs_of(store: ArtifactStore, checkpoint: Manifest) -> set[str]:
    """Return the fingerprints of a checkpoint's run, and of the runs that it goes on from: one curve."""
    found: set[str] = set()
    manifest: Manifest | None = checkpoint
    while manifest is not None:
        found.add(str(manifest.recipe.get("run")))
        start = manifest.inputs.get("start")
        manifest = store.find(start) if start is not None else None
    return found


def _run(store: ArtifactStore, ref: ArtifactRef) -> str:
    return str(store.manifest(ref).recipe.get("run"))


def _target(manifest: Manifest) -> Target:
    tag = step_tag(int(manifest.recipe["step"]), int(manifest.counts.get("tokens", 0)))
    return Target(label=tag, name=manifest.ref.name, checkpoint=manifest.ref, tag=tag)


def _hugging_face(store: ArtifactStore, text: str) -> Target:
    folder = Path(text).expanduser()
    if not folder.is_dir():
        if not _HUB.match(text):
            raise RecipeError(f"{text!r} names no model. {_what_can_be_given(store, text)}")
        folder = _downloaded(text)
    if not (folder / "config.json").is_file():
        raise RecipeError(f"{folder} has no config.json: it holds no Hugging Face model")
    label = re.sub(r"[^a-z0-9._-]+", "-", (text if _HUB.match(text) else folder.resolve().name).lower()).strip("-._")
    hub = None if Path(text).expanduser().is_dir() else text
    return Target(label=label, name=label, folder=str(folder.resolve()), hub=hub)


def _what_can_be_given(store: ArtifactStore, text: str) -> str:
    there = [f"checkpoint/{name}" for name in store.storage.folders(str(Kind.CHECKPOINT))]
    there.sort(key=lambda name: (name != f"checkpoint/{text.partition('@')[0]}", name))
    known = (
        f" (in this store: {', '.join(there[:5])}{', ...' if len(there) > 5 else ''})"
        if there
        else " (this store has none)"
    )
    return (
        f"Give a checkpoint, checkpoint/NAME, checkpoint/NAME@TAG or 'checkpoint/NAME@step*'{known}; a folder with a Hugging Face model "
        f"(config.json, tokenizer.json, *.safetensors); or an id of the Hugging Face hub as owner/name, e.g. openai-community/gpt2"
    )


def _downloaded(name: str) -> Path:
    try:
        hub = importlib.import_module("huggingface_hub")
        return Path(hub.snapshot_download(name, allow_patterns=list(_OF_A_MODEL)))
    except ImportError as error:
        raise RecipeError(f"{name} is to come from the Hugging Face hub: `pip install transformers` first") from error
    except Exception as error:  # the hub's errors have no common root of their own
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise AssetError(
            f"{name} is no folder here, and the Hugging Face hub does not give it ({why}). Without the hub, download it elsewhere "
            f"(`hf download {name} --local-dir FOLDER`) and give the folder; a checkpoint is written checkpoint/NAME@TAG"
        ) from error


def encoder_of(store: ArtifactStore, target: Target, tokenizer: str | None = None) -> Encoder:
    """Return the tokenizer of a model: what is given (an asset's name or a file), else its own.

    A checkpoint's own is the one that made the tokens it was trained on. Raises InputError where another one is given
    than that, or one with more ids than the model has.
    """
    if target.checkpoint is not None:
        manifest = store.manifest(target.checkpoint)
        made_by = tokenization_of(store, manifest)
        if made_by is None and tokenizer is None:
            log.warning("%s: what made its tokens is not in the store; %s is taken", target.label, DEFAULT)
        encoder = _encoder(tokenizer or (made_by or {}).get("tokenizer", DEFAULT))
        if made_by is not None and encoder.identity != made_by["tokenizer_sha256"]:
            raise InputError(
                f"{target.label} was trained on tokens of {made_by['tokenizer']} ({made_by['tokenizer_sha256'][:12]}); the tokenizer "
                f"given, {tokenizer}, is another one ({encoder.identity[:12]}): its ids mean other text"
            )
        _check_fit(encoder, model_recipe(manifest).embedding_rows, target.label)
        return encoder
    assert target.folder is not None
    folder = Path(target.folder)
    if tokenizer is None and not (folder / "tokenizer.json").is_file():
        raise AssetError(f"{folder} has no tokenizer.json; give the model's (--tokenizer FILE)")
    encoder = _encoder(tokenizer or str(folder / "tokenizer.json"), end_of_text_of(folder), rules_of(folder))
    if isinstance(rows := json.loads((folder / "config.json").read_text(encoding="utf-8")).get("vocab_size"), int):
        _check_fit(encoder, rows, target.label)
    return encoder


def _encoder(tokenizer: str, end_of_text: int | None = None, rules: TextRules | None = None) -> Encoder:
    path = tokenizer if Path(tokenizer).is_file() else assets.fetch(tokenizer)
    return Encoder(path, end_of_text, rules)


def _check_fit(encoder: Encoder, rows: int, label: str) -> None:
    if encoder.vocabulary > rows:
        raise InputError(
            f"the tokenizer has ids up to {encoder.vocabulary - 1}, the model {label} up to {rows - 1}: they do not belong together"
        )


def subject_of(store: ArtifactStore, target: Target, encoder: Encoder) -> Subject:
    """Return what of a model decides its numbers. Weights are known by their bytes, wherever they lie."""
    if target.checkpoint is not None:
        weights = _stored_weights(store, store.manifest(target.checkpoint))
    else:
        weights = _folder_weights(Path(target.folder or ""), encoder)
    return Subject(name=target.name, checkpoint=target.checkpoint, weights=weights, tokenizer=encoder.identity)


def _stored_weights(store: ArtifactStore, manifest: Manifest) -> str:
    """Digest of a checkpoint's parameters by the digests of their slices, and of the model's shape."""
    found = hashlib.sha256(json.dumps(manifest.recipe["model"], sort_keys=True).encode())
    for name, tensor in sorted(read_index(store, manifest).tensors.items()):
        if name.startswith(MODEL):
            for part in sorted(tensor.slices, key=lambda s: s.offset):
                found.update(f"{name} {tensor.dtype} {part.offset} {part.shape} {part.sha256}\n".encode())
    return found.hexdigest()


def _folder_weights(folder: Path, encoder: Encoder) -> str:
    files = sorted(folder.glob(_WEIGHTS))
    if not files:
        pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
        found = (
            f": {pickled[0]} is a pickle, and reading one runs what it says; convert it elsewhere" if pickled else ""
        )
        raise InputError(f"{folder} has no weights ({_WEIGHTS}){found}")
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    # It may say which token ends a text, and which one stands before each document.
    digest.update(f"end of text {end_of_text_of(folder)}, of answers {sorted(encoder.ends)}\n".encode())
    if encoder.start != encoder.end_of_text:
        digest.update(f"start of text {encoder.start}\n".encode())
    digest.update(f"contexts and continuations together, after {encoder.before}\n".encode())
    for path in files:
        digest.update(f"{path.name} {assets.file_sha256(path)}\n".encode())
    return digest.hexdigest()
