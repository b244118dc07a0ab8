"""Building artifacts: reuse, shard-level reuse, adoption after a kill, races, and what must never be published."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from olmo_core.artifacts.build import build
from olmo_core.artifacts.near import near_tags
from olmo_core.artifacts.output import Output
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import InputError, IntegrityError, QuarantineError, RecipeError, WorkerError
from olmo_core.workers import Workers
from tests.artifacts.toy import ToyRecipe, toy

SHARDS = {f"k{i}": [i, i + 1, i + 2] for i in range(8)}


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(2) as pool:
        yield pool


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


def digests(store: ArtifactStore, step: object) -> dict[str, str]:
    return {o.key: o.sha256 for o in store.manifest(step.ref).objects}  # type: ignore[attr-defined]


def test_a_second_build_runs_nothing(store: ArtifactStore, workers: Workers) -> None:
    first = build(store, toy(SHARDS), workers)
    before = {p.path: p.modified for p in store.storage.walk("")}
    second = build(store, toy(SHARDS), workers)
    assert (first.reused, second.reused) == (False, True)
    assert {p.path: p.modified for p in store.storage.walk("")} == before
    assert first.manifest.counts == {"sum": sum(sum(v) for v in SHARDS.values())}
    assert first.manifest.ledger.kept.documents == 24
    assert store.verify(first.ref) == []


def test_one_more_shard_builds_one(store: ArtifactStore, workers: Workers) -> None:
    first = build(store, toy(SHARDS), workers)
    changed = {**SHARDS, "k8": [1], "k0": [7]}
    upstream = build(store, toy({"k0": [1]}, stage="other"), workers)
    second = build(store, toy(changed, inputs={"other": upstream.ref}), workers)
    assert second.shards_reused == 7, "k1 to k7 are unchanged, k0 has other values, k8 is new"
    old = {o.key: o.path for o in first.manifest.objects}
    assert all(o.path == old[o.key] for o in second.manifest.objects if o.key not in ("k0", "k8"))


def test_another_recipe_or_version_is_another_artifact(store: ArtifactStore, workers: Workers) -> None:
    refs = {toy(SHARDS).ref, toy(SHARDS, ToyRecipe(factor=2)).ref, toy(SHARDS, version=2).ref}
    assert len(refs) == 3
    build(store, toy(SHARDS), workers)
    assert build(store, toy(SHARDS, version=2), workers).shards_reused == 0


def test_worker_count_does_not_change_a_byte(tmp_path: Path, workers: Workers) -> None:
    two, one = ArtifactStore(str(tmp_path / "two")), ArtifactStore(str(tmp_path / "one"))
    build(two, toy(SHARDS), workers)
    with Workers(1) as single:
        build(one, toy(SHARDS), single)
    assert digests(two, toy(SHARDS)) == digests(one, toy(SHARDS))


def build_and_die(uri: str, flag: str) -> None:
    """Build with one worker until the shard `k4` kills this whole process group."""
    os.setsid()
    step = toy(SHARDS, settings=None)
    done = 0

    def die(progress: object) -> None:
        nonlocal done
        done = progress.shards_done  # type: ignore[attr-defined]
        if done == 4:
            Path(flag).write_text("4 done")
            os.killpg(0, signal.SIGKILL)

    with Workers(1) as single:
        build(ArtifactStore(uri), step, single, progress=die)


def test_shards_of_a_killed_build_are_adopted(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    process = multiprocessing.get_context("spawn").Process(target=build_and_die, args=(store.uri, str(flag)))
    process.start()
    process.join(600)
    assert process.exitcode == -signal.SIGKILL and flag.exists()
    step = toy(SHARDS)
    assert store.find(step.ref) is None, "nothing is published by a build that was killed"
    before = {p.path: p.modified for p in store.storage.walk(step.ref.address)}
    assert len([p for p in before if p.endswith(".parquet")]) >= 4
    second = build(store, step, workers)
    assert second.shards_reused >= 4
    after = {p.path: p.modified for p in store.storage.walk(step.ref.address)}
    assert all(after[path] == modified for path, modified in before.items())
    undisturbed = ArtifactStore(str(tmp_path / "undisturbed"))
    build(undisturbed, step, workers)
    assert digests(store, step) == digests(undisturbed, step)


def test_a_damaged_shard_of_a_killed_build_is_not_adopted(store: ArtifactStore, workers: Workers) -> None:
    step = toy(SHARDS)
    first = build(store, step, workers)
    store.storage.delete(step.ref.manifest_path)
    victim = first.manifest.object("k3")
    store.storage.put(victim.path, b"x" * victim.size)
    second = build(store, step, workers)
    assert second.shards_reused == 7
    assert store.verify(step.ref) == []


def test_two_builds_at_once_give_one_manifest(store: ArtifactStore, workers: Workers) -> None:
    """The race is decided by the manifest: whoever comes second takes what stands."""
    step = toy(SHARDS)
    mine = build(store, step, workers).manifest
    standing, won = store.publish(type(mine)(**{**mine.__dict__, "attempt": "attempt-other"}))
    assert (won, standing.attempt) == (False, mine.attempt)
    again, won_again = store.publish(mine)
    assert won_again and again == mine, "meeting one's own success is no loss"


def test_a_dead_worker_is_survived(store: ArtifactStore, workers: Workers, tmp_path: Path) -> None:
    flag = tmp_path / "die"
    flag.write_text("")
    step = toy(SHARDS, settings={"key": "k2", "while": str(flag), "once": True})
    with Workers(2) as pool:
        assert len(build(store, step, pool).manifest.shards) == 8
    assert not flag.exists(), "the worker did die once"


def test_a_deadly_shard_is_named_and_nothing_is_published(store: ArtifactStore, tmp_path: Path) -> None:
    flag = tmp_path / "die"
    flag.write_text("")
    step = toy(SHARDS, settings={"key": "k2", "while": str(flag)})
    with Workers(2) as pool, pytest.raises(WorkerError, match="toy/all/k2"):
        build(store, step, pool)
    assert store.find(step.ref) is None


def test_a_ledger_that_does_not_balance_stops_the_stage(store: ArtifactStore, workers: Workers) -> None:
    step = toy(SHARDS, ToyRecipe(lose=True))
    with pytest.raises(IntegrityError, match="does not balance"):
        build(store, step, workers)
    assert store.find(step.ref) is None


def test_too_much_quarantine_stops_the_stage(store: ArtifactStore, workers: Workers) -> None:
    with pytest.raises(QuarantineError, match="8 of 24 records.*broken 8"):
        build(store, toy(SHARDS, ToyRecipe(quarantine=1)), workers)


def test_an_unfinished_input_stops_the_stage(store: ArtifactStore, workers: Workers) -> None:
    with pytest.raises(InputError, match="not finished"):
        build(store, toy(SHARDS, inputs={"other": toy(SHARDS, stage="other").ref}), workers)


@pytest.mark.parametrize("count", [1, 3])
def test_one_shard_is_said_to_be_one(
    store: ArtifactStore, workers: Workers, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    with caplog.at_level("INFO"):
        build(store, toy(dict(list(SHARDS.items())[:count])), workers)
    assert f"{count} {'shard' if count == 1 else 'shards'} built, 0 reused" in caplog.text


def test_rebuild_compares_bytes(store: ArtifactStore, workers: Workers) -> None:
    step = toy(SHARDS)
    build(store, step, workers)
    assert build(store, step, workers, rebuild=True).same_bytes is True


def test_verify_finds_damage(store: ArtifactStore, workers: Workers) -> None:
    manifest = build(store, toy(SHARDS), workers).manifest
    first, second, third = (manifest.object(k) for k in ("k0", "k1", "k2"))
    store.storage.delete(first.path)
    store.storage.put(second.path, b"short")
    store.storage.put(third.path, b"x" * third.size)
    found = {d.path: d.problem for d in store.verify(manifest.ref)}
    assert found[first.path] == "missing"
    assert "5 bytes" in found[second.path]
    assert "sha256" in found[third.path]
    assert len(store.verify(manifest.ref, contents=False)) == 2


def test_names_resolve_and_errors_list_what_there_is(store: ArtifactStore, workers: Workers) -> None:
    ref = build(store, toy(SHARDS), workers).ref
    store.tag(ref, "latest")
    store.tag(ref, "2026.11.21")
    assert store.resolve("attributes/x-toy") == store.resolve("attributes/x-toy@2026.11.21") == ref
    assert store.resolve(f"attributes/x-toy/{ref.fingerprint[:6]}") == ref
    for text, message in [
        ("attributes/x-toy@none", "tags: 2026.11.21, latest"),
        ("attributes/x-toy@lates", r"did you mean attributes/x-toy@latest\? tags: "),
        ("attributes/x-toy@2026.11.3", r"did you mean attributes/x-toy@2026.11.21\? tags: "),
        ("attributes/y-tox", r"did you mean attributes/x-toy\? `olmo artifacts ls` lists"),
        ("attributes/y-tox/ff", r"names 0 artifacts: .* did you mean attributes/x-toy\?"),
        ("corpus/x-toy", r"there is no corpus/x-toy in .*; did you mean attributes/x-toy\?"),
        ("corpus/other", r"there is no corpus/other in [^;]*; `olmo artifacts ls` lists all artifacts$"),
        ("nothing/x", "names no artifact"),
        ("attributes/x-toy/ffffffffffff", "names 0 artifacts"),
    ]:
        with pytest.raises(RecipeError, match=message):
            store.resolve(text)


def test_the_nearest_tags_are_by_number_where_they_have_one() -> None:
    """Of a checkpoint nobody knows the exact step."""
    steps = [f"step{n}-tokens0B" for n in (0, 100, 200, 1000)]
    assert near_tags("step99", [*steps, "latest"]) == ["step100-tokens0B", "step0-tokens0B"]
    assert near_tags("step5000", steps)[0] == "step1000-tokens0B"
    assert near_tags("2026.11.30", ["2026.11.21", "2026.11.27", "latest"])[0] == "2026.11.27"
    assert near_tags("latset", [*steps, "latest"]) == ["latest"]
    assert near_tags("zzz", steps) == near_tags("step1", ["latest"]) == []


def test_content_digest_ignores_chunks_and_slices() -> None:
    import pyarrow as pa

    from olmo_core.artifacts.output import content_digest

    rows = [
        {"s": "a", "l": [1, 2], "d": {"x": 1.5}},
        {"s": None, "l": None, "d": None},
        {"s": "", "l": [], "d": {"x": None}},
    ] * 3
    whole = pa.Table.from_pylist(rows)
    sliced = pa.concat_tables([whole.slice(0, 4), whole.slice(4)])
    padded = pa.Table.from_pylist(rows[:1] * 5 + rows).slice(5)
    assert content_digest(whole) == content_digest(sliced) == content_digest(padded)
    different = pa.Table.from_pylist([*rows[:-1], {"s": "", "l": [], "d": {"x": 0.0}}])
    assert content_digest(whole) != content_digest(different)
    assert Output is not None
