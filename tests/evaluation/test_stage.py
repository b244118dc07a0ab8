"""An evaluation as an artifact: numbers with their intervals, reuse by shard, going on after a kill, bad input."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from olmo_core.artifacts.build import build
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, RecipeError
from olmo_core.evaluation.encoder import Encoder
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.language_model import OwnModel
from olmo_core.evaluation.recipe import BenchmarkRecipe, DomainRecipe, EvaluationRecipe, evaluation_recipe
from olmo_core.evaluation.stage import Subject, evaluation_step, read_results
from olmo_core.evaluation.texts import folder_documents, folder_files
from olmo_core.model.config import ModelRecipe
from olmo_core.workers import Here
from tests.evaluation.models import tiny

SHAPE = ModelRecipe(width=32, layers=1, heads=2, mlp_width=32, vocabulary=257, embedding_rows=260, context=2048)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """A tokenizer whose tokens are bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>"])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    made.save(str(path))
    return Encoder(path)


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    """Two domains, one compressed."""
    folder = tmp_path / "texts"
    (folder / "web").mkdir(parents=True)
    rows = [json.dumps({"id": str(i), "text": f"Document {i} of the domain. " * (i + 1)}) for i in range(5)]
    (folder / "web" / "blogs.jsonl").write_text("\n".join(rows))
    (folder / "books.jsonl.gz").write_bytes(gzip.compress("\n".join(rows[:2]).encode()))
    return folder


def subject(encoder: Encoder, weights: str = "w" * 64) -> Subject:
    return Subject(name="toy", weights=weights, tokenizer=encoder.identity)


def loads(encoder: Encoder, seed: int = 0) -> tuple[list[int], Callable[[], tuple[Encoder, Scorer]]]:
    """A way to load the model, and how often it was used."""
    used: list[int] = []

    def load() -> tuple[Encoder, Scorer]:
        used.append(1)
        return encoder, Scorer(OwnModel(tiny(seed, SHAPE), "w" * 64))

    return used, load


def both(domains: Path) -> EvaluationRecipe:
    return EvaluationRecipe(
        name="small",
        benchmarks=(BenchmarkRecipe(name="truthfulqa_mc2", limit=2, seed=1),),
        domains=(DomainRecipe(name="text", folder=str(domains)),),
    )


def test_numbers_of_benchmarks_and_domains_in_one_artifact(tmp_path: Path, encoder: Encoder, domains: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    _, load = loads(encoder)
    seen: list[tuple[str, int, int]] = []
    step = evaluation_step(
        store, both(domains), subject(encoder), load, stand_in=True, progress=lambda *one: seen.append(one)
    )
    built = build(store, step, Here())
    results = read_results(store, built.manifest)
    quiz, text = results["truthfulqa_mc2-catwalk"], results["text-domains"]
    assert quiz["handmade"] and quiz["items"] == quiz["scored"] == 2 and quiz["failed"] == 0
    assert quiz["metrics"]["mc2"]["low"] <= quiz["metrics"]["mc2"]["value"] <= quiz["metrics"]["mc2"]["high"]
    assert sorted(text["domains"]) == ["books", "web/blogs"]
    blogs = text["domains"]["web/blogs"]
    assert blogs["documents"] == 5 and blogs["tokens"] == blogs["bytes"]  # a token is a byte
    assert blogs["bits_per_byte"]["value"] > 0 and text["bits_per_byte"] == pytest.approx(
        sum(one["bits_per_byte"]["value"] for one in text["domains"].values()) / 2
    )
    assert seen and all(done <= total for _, done, total in seen)
    assert not store.verify(built.manifest)


def test_what_was_scored_is_taken_over(tmp_path: Path, encoder: Encoder, domains: Path) -> None:
    """The same again loads no model; one more source of texts scores that one only; other weights score everything."""
    store = ArtifactStore(str(tmp_path / "store"))
    first = both(domains)
    used, load = loads(encoder)
    build(store, evaluation_step(store, first, subject(encoder), load, stand_in=True), Here())
    again = build(store, evaluation_step(store, first, subject(encoder), load, stand_in=True), Here())
    assert again.reused and len(used) == 1
    more = replace(first, domains=(*first.domains, DomainRecipe(name="more", folder=str(domains), tokens=100)))
    built = build(store, evaluation_step(store, more, subject(encoder), load, stand_in=True), Here())
    assert (built.shards_reused, len(built.manifest.shards)) == (2, 3)
    other = build(store, evaluation_step(store, more, subject(encoder, "v" * 64), load, stand_in=True), Here())
    assert other.shards_reused == 0 and other.ref != built.ref


def test_a_killed_evaluation_goes_on_at_the_next_shard(tmp_path: Path, encoder: Encoder, domains: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"))

    class Killed(BaseException):
        pass

    seen: set[str] = set()

    def stop(key: str, done: int, total: int) -> None:
        seen.add(key)
        if len(seen) == 2:  # the first shard is finished; which one that is, chance decides
            raise Killed

    _, load = loads(encoder)
    with pytest.raises(Killed):
        build(
            store, evaluation_step(store, both(domains), subject(encoder), load, stand_in=True, progress=stop), Here()
        )
    step = evaluation_step(store, both(domains), subject(encoder), load, stand_in=True)
    assert store.find(step.ref) is None
    built = build(store, step, Here())
    assert built.shards_reused == 1 and sorted(read_results(store, built.manifest)) == [
        "text-domains",
        "truthfulqa_mc2-catwalk",
    ]


def test_a_sample_of_a_domain_is_of_its_tokens_and_does_not_hang_on_order(
    tmp_path: Path, encoder: Encoder, domains: Path
) -> None:
    store = ArtifactStore(str(tmp_path / "store"))
    recipe = EvaluationRecipe(name="part", domains=(DomainRecipe(name="text", folder=str(domains), tokens=60),))
    _, load = loads(encoder)
    one = build(store, evaluation_step(store, recipe, subject(encoder), load), Here())
    lines = (domains / "web" / "blogs.jsonl").read_text().splitlines()
    (domains / "web" / "blogs.jsonl").write_text("\n".join(reversed(lines)))
    two = build(store, evaluation_step(store, recipe, subject(encoder), load), Here())
    assert one.ref != two.ref  # the file has other bytes
    a, b = (read_results(store, m.manifest)["text-domains"]["domains"]["web/blogs"] for m in (one, two))
    assert a == b and 0 < a["documents"] < 5


@pytest.mark.parametrize(
    ("line", "message"), [("{", "line 6"), ('{"id": 1}', "field `text`"), ('{"text": 3}', "is int"), ("[]", "line 6")]
)
def test_a_broken_text_names_file_and_line(
    tmp_path: Path, encoder: Encoder, domains: Path, line: str, message: str
) -> None:
    path = domains / "web" / "blogs.jsonl"
    path.write_text(path.read_text() + "\n" + line)
    store = ArtifactStore(str(tmp_path / "store"))
    _, load = loads(encoder)
    with pytest.raises(InputError, match=message):
        build(store, evaluation_step(store, both(domains), subject(encoder), load, stand_in=True), Here())


def test_lines_end_where_json_lines_do_and_cut_archives_are_said(tmp_path: Path) -> None:
    strange = "one\u2028two\u0085three"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": strange}, ensure_ascii=False) + "\r\n", encoding="utf-8")
    (one,) = folder_documents(str(tmp_path), "s", folder_files(str(tmp_path)))
    assert one.text == strange
    whole = bytearray(gzip.compress(b'{"text": "something long enough"}\n' * 9))
    whole[14] ^= 0xFF
    (tmp_path / "b.jsonl.gz").write_bytes(whole)
    with pytest.raises(InputError, match=r"b\.jsonl\.gz cannot be read"):
        list(folder_documents(str(tmp_path), "s", folder_files(str(tmp_path))))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x"}, "names no benchmarks"),
        ({"name": "x", "benchmarks": ["arc_easy", "core"]}, "arc_easy is there twice"),
        ({"name": "x", "benchmarks": ["nonsense"]}, "no benchmark 'nonsense'"),
        ({"name": "x", "domains": [{"name": "a"}]}, "either `folder` or `corpus`"),
        ({"name": "x", "benchmarks": [{"name": "copa", "limits": 3}]}, "did you mean 'limit'"),
        ({"name": "x", "benchmarks": [{"name": "copa", "limit": 0}]}, "give 1 or more"),
        (
            {"name": "x", "benchmarks": [{"name": "truthfulqa_mc2", "shots": 0}]},
            "always has its 6 examples; 0 were asked",
        ),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        evaluation_recipe(values)


def test_a_suite_is_its_benchmarks() -> None:
    recipe = evaluation_recipe({"name": "x", "benchmarks": [{"name": "core", "limit": 5}, "mmlu"]})
    assert len(recipe.all_benchmarks()) == 10 and {b.limit for b in recipe.all_benchmarks()} == {5, None}
