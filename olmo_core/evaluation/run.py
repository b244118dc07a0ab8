"""One model evaluated, from its name in the store or its folder to a tagged evaluation artifact.

The model is loaded when the first number is needed that no artifact and no cache has, and is let go of before the next.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch

from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, RecipeError
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.language_model import HuggingFaceModel, LanguageModel, OwnModel
from olmo_core.evaluation.recipe import EvaluationRecipe
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.score_cache import ScoreCache
from olmo_core.evaluation.stage import Subject, evaluation_step
from olmo_core.evaluation.targets import Target, encoder_of, subject_of
from olmo_core.train.checkpoint_read import load_model
from olmo_core.workers import Here

_BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}


def torch_device(resources: ScoringResources) -> torch.device:
    """Return the device. Raises RecipeError where it is asked for and not there."""
    if resources.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("device: cuda, but torch sees no GPU here; give cpu, or auto")
    return torch.device("cuda" if resources.device != "cpu" and torch.cuda.is_available() else "cpu")


def evaluate(
    store: ArtifactStore,
    recipe: EvaluationRecipe,
    target: Target,
    resources: ScoringResources | None = None,
    *,
    own_files: Mapping[str, str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Built:
    """Evaluate one model, or find that it is evaluated; tag the artifact `latest` and with the checkpoint's tag.

    `progress`: called with the shard's name, requests done and their number. Raises what is wrong with recipe, texts, tokenizer or model.
    """
    resources = resources or ScoringResources()
    encoder = encoder_of(store, target, resources.tokenizer)
    subject = subject_of(store, target, encoder)
    held: list[Scorer] = []

    def load() -> tuple[Encoder, Scorer]:
        scorer = load_scorer(store, target, subject, recipe, resources)
        held.append(scorer)
        return encoder, scorer

    step = evaluation_step(store, recipe, subject, load, own_files=own_files, progress=progress)
    try:
        built = build(store, step, Here())
    finally:
        for scorer in held:
            if scorer.cache is not None:
                scorer.cache.close()
        held.clear()
        del step
        _let_go()
    for tag in ("latest", *([target.tag] if target.tag else [])):
        store.tag(built.ref, tag)
    return built


def load_scorer(
    store: ArtifactStore, target: Target, subject: Subject, recipe: EvaluationRecipe, resources: ScoringResources
) -> Scorer:
    """Return the model with its cache, ready to score."""
    device, dtype = torch_device(resources), getattr(torch, recipe.precision)
    model: LanguageModel
    if target.checkpoint is not None:
        model = OwnModel(load_model(store, target.checkpoint, device, dtype), subject.weights)
    else:
        model = HuggingFaceModel(_hugging_face(str(target.folder), device, dtype), subject.weights)
    cache = ScoreCache(
        resources.scores_folder(),
        weights=subject.weights,
        tokenizer=subject.tokenizer,
        dtype=f"{recipe.precision}-{device.type}",
    )
    return Scorer(model, batch_tokens=resources.batch_tokens or _BATCH_TOKENS[device.type], cache=cache)


def _hugging_face(folder: str, device: torch.device, dtype: torch.dtype) -> Any:
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise RecipeError(f"{folder} is a Hugging Face model: `pip install transformers` to evaluate it") from error
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device)
    except (ValueError, OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{folder}: transformers cannot load it as a causal language model: {error}") from error


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
