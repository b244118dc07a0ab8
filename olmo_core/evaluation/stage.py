"""Evaluation as a stage: a model and a recipe in, an evaluation artifact out; one shard for each benchmark and source of texts.

A shard hangs on the model, its own benchmark and the way of scoring, so an evaluation of two benchmarks more takes over
what was scored, and one that was killed goes on: finished shards are adopted, scored requests are in the cache.
The artifact's objects: `results.json`; `{benchmark}.items` (a row for each item), `{benchmark}.choices` (a row for each choice),
`{source}.documents` (a row for each document).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from olmo_core.artifacts.ledger import Ledger
from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.ref import ArtifactRef, Kind, check_name
from olmo_core.artifacts.step import Job, Shard, Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.splits import split_named
from olmo_core.errors import InputError
from olmo_core.evaluation.ask import ask
from olmo_core.evaluation.benchmarks.definitions import definition
from olmo_core.evaluation.benchmarks.loading import known_digests, load
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.engine import Progress, Scorer
from olmo_core.evaluation.generated import answer
from olmo_core.evaluation.perplexity import score_documents
from olmo_core.evaluation.recipe import BenchmarkRecipe, DomainRecipe, EvaluationRecipe
from olmo_core.evaluation.results import benchmark_results, domain_results, generated_results, plain
from olmo_core.evaluation.texts import (
    TextFile,
    corpus_documents,
    corpus_files,
    folder_documents,
    folder_files,
    subsample,
)

VERSION = 2
"""2: what scoring took is no longer among the results, which an execution that was cut off and went on gives byte for byte."""
RESULTS = "results"
"""Ending of the objects that hold a shard's numbers."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model that is evaluated, as far as it decides the numbers."""

    name: str
    """Beginning of the evaluation artifact's name."""
    checkpoint: ArtifactRef | None = None
    """A checkpoint of ours; an input of the artifact."""
    weights: str
    """Digest of the weights."""
    tokenizer: str
    """sha256 of the tokenizer's file."""


@dataclass(frozen=True, kw_only=True)
class _Identity:
    """The recipe with everything it names made definite."""

    recipe: EvaluationRecipe
    model: dict[str, str]
    data: dict[str, Any] = field(default_factory=dict)
    """Digest of each benchmark's items, and of each file of texts."""


@dataclass(frozen=True, kw_only=True)
class _Scoring:
    """What decides a shard beside its own benchmark."""

    windows: str
    precision: str
    model: dict[str, str]


def evaluation_step(
    store: ArtifactStore,
    recipe: EvaluationRecipe,
    subject: Subject,
    load_scorer: Callable[[], tuple[Encoder, Scorer]],
    *,
    own_files: Mapping[str, str] | None = None,
    stand_in: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Step:
    """Return the step that evaluates; to be built with `olmo_core.workers.Here`, as its shards share the model.

    `load_scorer` is called when the first shard needs it: not at all where everything is there already.
    `own_files`, `stand_in`: see `benchmarks.loading.load`; the latter also by the recipe. `progress`: called with shard, requests done and their number.
    """
    model = {"weights": subject.weights, "tokenizer": subject.tokenizer}
    scoring = _Scoring(windows=recipe.windows, precision=recipe.precision, model=model)
    texts = {one.name: _files(store, one) for one in recipe.domains}
    inputs = {"checkpoint": subject.checkpoint} if subject.checkpoint else {}
    inputs |= {f"corpus {d.name}": store.resolve(d.corpus) for d in recipe.domains if d.corpus}
    shards = [_benchmark_shard(one, stand_in or recipe.stand_in) for one in recipe.all_benchmarks()]
    shards += [_domain_shard(one, texts[one.name]) for one in recipe.domains]
    loaded: list[tuple[Encoder, Scorer]] = []

    def work(job: Job, output: Output) -> tuple[Ledger, Mapping[str, Any]]:
        if not loaded:
            loaded.append(load_scorer())
        encoder, scorer = loaded[0]
        key = job.shard.key

        def tell(done: int, total: int) -> None:
            if progress is not None:
                progress(key, done, total)

        if (domain := job.shard.inputs.get("domain")) is not None:
            results = _score_texts(store, domain, texts[domain.name], recipe, encoder, scorer, output, key, tell)
        else:
            given = {"own_files": own_files, "stand_in": job.shard.inputs["stand_in"]}
            results = _score_benchmark(job.shard.inputs["benchmark"], given, encoder, scorer, output, key, tell)
        with output.raw(f"{key}.{RESULTS}", ".json", rows=1) as handle:
            handle.write(json.dumps(plain(results), indent=1, sort_keys=True, ensure_ascii=False).encode())
        # What it took is no result: of an execution that found scores in the cache it is another number.
        return Ledger(), {**scorer.work.__dict__, "failed": results["failed"]}

    return Step(
        stage="evaluation",
        source=recipe.name,
        version=VERSION,
        kind=Kind.EVALUATION,
        name=check_name(f"{subject.name}-{recipe.name}", "evaluation name"),
        recipe=_Identity(recipe=recipe, model=model, data={shard.key: dict(shard.identity) for shard in shards}),
        shard_recipe=scoring,
        inputs=inputs,
        shards=lambda manifests: shards,
        work=work,
    )


def _files(store: ArtifactStore, one: DomainRecipe) -> list[TextFile]:
    if one.folder is not None:
        return folder_files(one.folder)
    assert one.corpus is not None
    manifest = store.manifest(store.resolve(one.corpus))
    if manifest.ref.kind != Kind.CORPUS:
        raise InputError(f"domains of {one.name}: {manifest.ref} is no corpus; give e.g. corpus/NAME-validation")
    if split_named(manifest) == "train":
        raise InputError(
            f"domains of {one.name}: {manifest.ref} is what models are trained on, no held-out split; "
            f"give one, e.g. corpus/{manifest.ref.name}-validation (docs/held-out.md)"
        )
    return corpus_files(manifest)


def _benchmark_shard(one: BenchmarkRecipe, stand_in: bool) -> Shard:
    benchmark = definition(one.name, one.format).benchmark
    handmade = stand_in and one.name == "truthfulqa_mc2"
    identity = {
        "benchmark": benchmark.key,
        "items": "stand-in" if handmade else known_digests().get(benchmark.key, "unknown"),
        "selection": dict(one.selection().__dict__),
    }
    return Shard(
        key=f"{one.name}-{one.format.replace('_', '-')}",
        identity=identity,
        inputs={"benchmark": one, "stand_in": handmade},
        size=benchmark.documents if one.limit is None else min(one.limit, benchmark.documents),
    )


def _domain_shard(one: DomainRecipe, files: Sequence[TextFile]) -> Shard:
    digests = [[f.domain, f.sha256] for f in files]
    identity = {"domains": one.name, "files": digests, "tokens": one.tokens}
    return Shard(key=f"{one.name}-domains", identity=identity, inputs={"domain": one}, size=len(files))


def _score_benchmark(
    one: BenchmarkRecipe,
    given: Mapping[str, Any],
    encoder: Encoder,
    scorer: Scorer,
    output: Output,
    key: str,
    progress: Progress,
) -> dict[str, Any]:
    items = load(definition(one.name, one.format).benchmark, one.selection(), **given)
    if items.benchmark.generation is not None:
        metric, status, texts = answer(encoder, items, scorer, progress)
        results, table = generated_results(items, metric, status)
        output.table(f"{key}.answers", texts)
    else:
        scores = ask(encoder, items.items, scorer, progress)
        results, table = benchmark_results(items, scores)
        output.table(f"{key}.choices", scores.table())
    output.table(f"{key}.items", table)
    return {**results, "files": dict(items.files)}


def _score_texts(
    store: ArtifactStore,
    one: DomainRecipe,
    files: Sequence[TextFile],
    recipe: EvaluationRecipe,
    encoder: Encoder,
    scorer: Scorer,
    output: Output,
    key: str,
    progress: Progress,
) -> dict[str, Any]:
    if one.folder is not None:
        documents = list(folder_documents(one.folder, one.name, files))
    else:
        documents = list(corpus_documents(store, one.name, files))
    chosen = subsample(documents, encoder, one.tokens)
    table = score_documents(scorer, chosen, encoder.start, recipe.windows, progress)
    output.table(f"{key}.documents", table)
    return {**domain_results(one.name, table), "population": len(documents), "windows": recipe.windows}


def read_results(store: ArtifactStore, manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Return the numbers of an evaluation artifact, by benchmark and format, or source of texts."""
    found = {}
    for one in manifest.objects:
        if one.key.endswith(f".{RESULTS}.json"):
            found[one.key.removesuffix(f".{RESULTS}.json")] = json.loads(store.storage.read(one.path))
    return found
