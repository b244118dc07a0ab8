"""Evaluating processes: the same numbers after SIGKILL in the middle and on two ranks; exit codes; models that are sharded."""

from __future__ import annotations

import json
import math
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.fsdp import fully_shard

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import WorkerError
from olmo_core.evaluation.engine import Scorer
from olmo_core.evaluation.language_model import OwnModel
from olmo_core.evaluation.requests import Request
from olmo_core.evaluation.score_cache import ScoreCache
from olmo_core.evaluation.team import Preempted, Team
from tests.evaluation.bytes_model import evaluation, model_folder, numbers, start, texts
from tests.evaluation.models import one_by_one, tiny
from tests.evaluation.test_engine import questions
from tests.train.processes import run_ranks

CLOSE = 1e-4


def asked() -> list[Request]:
    """Questions of two kinds, some with examples before them, and a long continuation."""
    rng = random.Random(2)
    long = [Request(context=(0,), continuation=tuple(rng.randrange(90) for _ in range(60))) for _ in range(5)]
    return [*questions(1, 9), *questions(2, 20, shots=40), *long]


def score(rank: int, world: int, folder: str, sharded: bool, follows: bool) -> tuple[list[float], int]:
    """Score on a rank; those that follow know nothing of the requests."""
    model = tiny()
    if sharded:
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model, reshard_after_forward=False)
    cache = ScoreCache(folder, weights="w", tokenizer="t", dtype="float32")
    scorer = Scorer(OwnModel(model, "w"), batch_tokens=64, cache=cache, team=Team())
    before = len(cache)
    if follows and rank:
        assert scorer.team is not None
        call = scorer.team.hear()
        seen = [one.log_likelihood for one in scorer.serve_scores(call.what).values()]
    else:
        seen = [one.log_likelihood for one in scorer.score(asked())]
    scorer.close()
    return seen, len(cache) - before


@pytest.mark.parametrize("sharded", [False, True], ids=["whole", "sharded"])
def test_ranks_share_the_work_and_get_the_same(tmp_path: Path, sharded: bool) -> None:
    expected = one_by_one(tiny(), asked())
    cache = str(tmp_path / "scores")
    (first, mine), (second, others) = run_ranks(2, score, tmp_path, cache, sharded, False)
    assert first == second == pytest.approx(expected, abs=CLOSE)
    distinct = len(set(asked()))
    assert mine + others == distinct and min(mine, others) > 0.1 * distinct
    again = run_ranks(2, score, tmp_path, cache, sharded, True)
    assert again[0] == (first, 0) and again[1][1] == 0


def spoiled(rank: int, world: int) -> str:
    """Score with a second rank that fails, and say what became of it."""
    scorer = Scorer(OwnModel(tiny(), "w"), batch_tokens=64, team=Team())
    if rank:
        scorer.model.run = None  # type: ignore[method-assign]
    try:
        scorer.score(asked())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def test_a_rank_that_fails_is_named(tmp_path: Path) -> None:
    leader, other = run_ranks(2, spoiled, tmp_path)
    assert leader.startswith(f"{WorkerError.__name__}: rank 1 of 2 could not score: TypeError")
    assert other.startswith("TypeError")


def told_to_end(rank: int, world: int) -> tuple[str, int]:
    """Score with a model of which each rank holds a part; rank 1 is told to end at its second batch."""
    model = tiny()
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model, reshard_after_forward=False)
    scorer = Scorer(OwnModel(model, "w"), batch_tokens=64, team=Team())
    calls = 0

    def progress(*_: int) -> None:
        nonlocal calls
        calls += 1
        if rank and calls == 2:
            raise Preempted

    try:
        if rank:
            assert scorer.team is not None
            scorer.serve_scores(scorer.team.hear().what, progress)
        else:
            scorer.score(asked(), progress)
    except Preempted as told:
        return type(told).__name__, calls
    return "nothing", calls


def test_ranks_that_share_a_model_end_after_the_same_batch(tmp_path: Path) -> None:
    """One that stopped alone would wait for the others' results, and they for its part of the model."""
    first, second = run_ranks(2, told_to_end, tmp_path)
    assert first == second == ("Preempted", 2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("model") / "bytes")


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder of texts, and what one process that is left alone finds."""
    folder = tmp_path_factory.mktemp("alone")
    domain = texts(folder / "texts", 160, 220)
    run = evaluation(folder, "alone", model, domain, batch_tokens=256)
    process = start(run)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    yield domain, numbers(run)


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare all that was found, but for rounding."""
    assert found.keys() == expected.keys()
    flat_found, flat_expected = dict(_leaves(found)), dict(_leaves(expected))
    assert flat_found.keys() == flat_expected.keys()
    for path, value in flat_expected.items():
        close = pytest.approx(value, rel=1e-5, abs=CLOSE) if isinstance(value, float) else value
        assert flat_found[path] == close, path


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _leaves(one, f"{path}/{name}")
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _leaves(one, f"{path}/{number}")
    else:
        yield path, value


def scores_of(run: Path) -> list[Path]:
    """Files of the cache of an EVAL.json."""
    return list(Path(json.loads(run.read_text())["resources"]["scores"]).rglob("*.scores"))


def interrupted(run: Path, sent: signal.Signals) -> tuple[int, str]:
    """Start a process, send a signal once it has scored something, and return how it ended."""
    process = start(run)
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        if sum(path.stat().st_size for path in scores_of(run)) > 5000:
            process.send_signal(sent)
            break
        time.sleep(0.02)
    _, said = process.communicate(timeout=600)
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 75)])
def test_an_ended_process_goes_on_where_it_was(
    tmp_path: Path, model: Path, alone: tuple[Path, dict[str, Any]], sent: signal.Signals, code: int
) -> None:
    domain, expected = alone
    run = evaluation(tmp_path, "ended", model, domain, batch_tokens=256)
    assert interrupted(run, sent)[0] == code
    assert not list(ArtifactStore(json.loads(run.read_text())["store"]).finished("evaluation"))
    kept = sum(path.stat().st_size for path in scores_of(run)) // 40
    assert kept > 100
    process = start(run)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert numbers(run) == expected, "to the last bit"
    scored = sum(path.stat().st_size for path in scores_of(run)) // 40
    (alone_scored,) = (len(one.read_bytes()) // 40 for one in domain.parent.rglob("*.scores"))
    assert scored == alone_scored, "nothing was scored twice"


@pytest.mark.slow
def test_two_ranks_under_torchrun(tmp_path: Path, model: Path, alone: tuple[Path, dict[str, Any]]) -> None:
    domain, expected = alone
    run = evaluation(tmp_path, "two", model, domain, batch_tokens=256)
    process = start(run, ranks=2)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    same(numbers(run), expected)
    assert len([path for path in scores_of(run) if path.stat().st_size > 10_000]) == 2


@pytest.mark.slow
def test_what_is_wrong_is_said(tmp_path: Path, model: Path) -> None:
    domain = texts(tmp_path / "texts", 1, 3)
    run = evaluation(tmp_path, "wrong", model, domain)
    values = json.loads(run.read_text())
    for changed, message in (
        ({"models": [str(tmp_path / "nothing")]}, "names no model"),
        ({"resources": {"devise": "cpu"}}, "did you mean 'device'"),
    ):
        run.write_text(json.dumps({**values, **changed}))
        process = start(run)
        _, said = process.communicate(timeout=600)
        assert process.returncode == 1 and message in said and "Traceback" not in said


@pytest.mark.parametrize("rows", [1, 7, 32])
def test_batches_of_any_size_and_order(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch but the last of a group has so many rows; the order of requests is another each time."""
    monkeypatch.setattr("olmo_core.evaluation.prefix_tree.SAVED", 100)
    seen: list[int] = []
    monkeypatch.setattr(
        "olmo_core.evaluation.dealing.batches",
        lambda given, tokens: [seen.append(rows) or list(given[i : i + rows]) for i in range(0, len(given), rows)],
    )
    requests = asked()
    expected = dict(zip(requests, one_by_one(tiny(), requests), strict=True))
    random.Random(rows).shuffle(requests)
    answers = Scorer(OwnModel(tiny(), "w")).score(requests)
    assert [one.log_likelihood for one in answers] == pytest.approx([expected[r] for r in requests], abs=CLOSE)
    assert seen and all(math.isfinite(one.log_likelihood) for one in answers)
