"""One model evaluated, from its name in the store or its folder to a tagged evaluation artifact.

The model is loaded when the first number is needed that no artifact and no cache has, and is let go of before the next.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from olmo_core.artifacts.build import Built, build
from olmo_core.artifacts.ref import ArtifactRef
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, RecipeError
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.generated import continuations
from olmo_core.evaluation.language_model import HuggingFaceModel, LanguageModel, OwnModel
from olmo_core.evaluation.recipe import EvaluationRecipe
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.evaluation.score_cache import ScoreCache
from olmo_core.evaluation.stage import Subject, evaluation_step
from olmo_core.evaluation.targets import Target, encoder_of, subject_of
from olmo_core.evaluation.team import Team
from olmo_core.model.hugging_face import load_hugging_face
from olmo_core.model.transformer import Transformer
from olmo_core.train.checkpoint_read import load_model, model_recipe, read_index, read_into
from olmo_core.train.checkpoint_tensors import targets
from olmo_core.train.sharding import shard
from olmo_core.workers import Here

log = logging.getLogger(__name__)

_BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}


def torch_device(resources: ScoringResources) -> torch.device:
    """Return the device, under torchrun that of this process. Raises RecipeError where it is asked for and not there."""
    if resources.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("device: cuda, but torch sees no GPU here; give cpu, or auto")
    if resources.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise RecipeError(f"process {local} of this machine has no GPU: there are {torch.cuda.device_count()}")
    return torch.device("cuda", local)


def evaluate(
    store: ArtifactStore,
    recipe: EvaluationRecipe,
    target: Target,
    resources: ScoringResources | None = None,
    *,
    own_files: Mapping[str, str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    team: Team | None = None,
) -> Built:
    """Evaluate one model, or find that it is evaluated; tag the artifact `latest` and with the checkpoint's tag.

    With a `team` this is what its rank 0 does, while the others `follow`.

    `progress`: called with the shard's name, requests done and their number. Raises what is wrong with recipe, texts, tokenizer or model.
    """
    resources = resources or ScoringResources()
    encoder = encoder_of(store, target, resources.tokenizer)
    subject = subject_of(store, target, encoder)
    held: list[Scorer] = []

    def load() -> tuple[Encoder, Scorer]:
        make = partial(load_scorer, store, target, subject, recipe, resources, team)
        if team is not None:
            team.tell("load", (target, subject, recipe, resources))
        held.append(make() if team is None else team.together(make))
        return encoder, held[0]

    step = evaluation_step(store, recipe, subject, load, own_files=own_files, progress=progress)
    try:
        built = build(store, step, Here())
    finally:
        for scorer in held:
            scorer.close()
        held.clear()
        del step
        _let_go()
    for tag in ("latest", *([target.tag] if target.tag else [])):
        store.tag(built.ref, tag)
    return built


def evaluation_ref(
    store: ArtifactStore, recipe: EvaluationRecipe, target: Target, resources: ScoringResources
) -> ArtifactRef:
    """Return the artifact that `evaluate` makes or finds; raises what is wrong with recipe, texts or tokenizer, as it does."""
    encoder = encoder_of(store, target, resources.tokenizer)
    subject = subject_of(store, target, encoder)

    def load() -> tuple[Encoder, Scorer]:
        raise AssertionError("nothing is scored here")

    return evaluation_step(store, recipe, subject, load).ref


def follow(
    store: ArtifactStore,
    team: Team,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Do, as one of the other ranks, what rank 0 says until it says that it is done."""
    held: list[tuple[Encoder, Scorer]] = []
    problem: Exception | None = None

    def load(target: Target, subject: Subject, recipe: EvaluationRecipe, resources: ScoringResources) -> None:
        for _, scorer in held:
            scorer.close()
        held[:] = []
        _let_go()
        encoder = encoder_of(store, target, resources.tokenizer)
        held.append((encoder, load_scorer(store, target, subject, recipe, resources, team)))

    while (call := team.hear()).kind != "end":
        # What goes wrong is told to rank 0 when results are gathered; it decides, and says when it is over.
        try:
            if call.kind == "load":
                team.together(partial(load, *call.what))
            elif call.kind == "score":
                held[0][1].serve_scores(call.what, progress)
            else:
                continuations(*held[0], call.what, lambda done, total: progress(done))
        except Exception as error:
            problem = problem or error
    for _, scorer in held:
        scorer.close()
    if problem is not None:
        raise problem


def load_scorer(
    store: ArtifactStore,
    target: Target,
    subject: Subject,
    recipe: EvaluationRecipe,
    resources: ScoringResources,
    team: Team | None = None,
) -> Scorer:
    """Return the model with its cache, ready to score."""
    device, dtype = torch_device(resources), getattr(torch, recipe.precision)
    model: LanguageModel
    if resources.shard:
        if team is None:
            raise RecipeError(
                "shard: there is one process only; start several: torchrun -m olmo_core.evaluation EVAL.json"
            )
        if target.checkpoint is None:
            raise RecipeError(f"shard: {target.label} is no checkpoint of ours; only those can be sharded")
        model = OwnModel(load_sharded(store, target.checkpoint, device, recipe.precision), subject.weights, dtype=dtype)
    elif target.checkpoint is not None:
        model = OwnModel(load_model(store, target.checkpoint, device, dtype), subject.weights)
    else:
        model = _of_folder(str(target.folder), subject.weights, device, dtype)
    cache = ScoreCache(
        resources.scores_folder(),
        weights=subject.weights,
        tokenizer=subject.tokenizer,
        dtype=f"{recipe.precision}-{device.type}",
    )
    return Scorer(model, batch_tokens=resources.batch_tokens or _BATCH_TOKENS[device.type], cache=cache, team=team)


def _of_folder(folder: str, weights: str, device: torch.device, dtype: torch.dtype) -> LanguageModel:
    """The model of a Hugging Face folder: as one of ours where it has the shape of one, which is faster."""
    try:
        return OwnModel(load_hugging_face(Path(folder), device, dtype), weights)
    except (RecipeError, InputError) as error:
        log.info("%s is scored by transformers, as it is no model of ours: %s", folder, error)
    return HuggingFaceModel(_hugging_face(folder, device, dtype), weights)


def load_sharded(store: ArtifactStore, checkpoint: ArtifactRef, device: torch.device, precision: str) -> Transformer:
    """Return a checkpoint's model with a part of each tensor in each process of torch.distributed's default group."""
    manifest = store.manifest(checkpoint)
    with torch.device("meta"):
        model = Transformer(model_recipe(manifest))
    shard(model, init_device_mesh(device.type, (dist.get_world_size(),)), precision=precision)
    model = model.to_empty(device=device)
    read_into(store, manifest, targets(model, None, read_index(store, manifest).tensors))
    return model.eval()


def _hugging_face(folder: str, device: torch.device, dtype: torch.dtype) -> Any:
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise RecipeError(f"{folder} is a Hugging Face model: `pip install transformers` to evaluate it") from error
    try:
        # Weights that are pickles and models that bring their own program are refused: both would run what they hold.
        return transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        ).to(device)
    except (ValueError, OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{folder}: transformers cannot load it as a causal language model: {error}") from error


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
