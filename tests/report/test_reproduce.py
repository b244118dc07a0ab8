"""An evaluated checkpoint's whole lineage made again in another store, and what is said where something differs."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from olmo_core.artifacts.build import build
from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.step import Step
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.origins import CorpusOrigins
from olmo_core.errors import RecipeError
from olmo_core.reproduction import training
from olmo_core.reproduction.comparison import Verdict, compare, environment_differences
from olmo_core.reproduction.rebuild import Reproduction, reproduce
from olmo_core.train.run_record import put_run_file
from olmo_core.workers import Here, Workers
from tests.artifacts.toy import toy
from tests.report.whole_store import Whole
from tests.small_corpus import Run
from tests.train.tiny_run import Job, tiny_run


def test_an_evaluations_lineage_is_made_again_with_the_same_bytes(
    whole: Whole, small: Run, workers: Workers, tmp_path: Path
) -> None:
    """Corpus, training by a process of its own up to step 3, evaluation: by recipe, nothing copied."""
    again = ArtifactStore(str(tmp_path / "again"))
    work = Reproduction(
        made=whole.store, again=again, origins=CorpusOrigins(whole.store, small.recipe), workers=workers
    )
    found = reproduce(work, whole.evaluations[1])
    assert {str(one.ref): (str(one.verdict), one.detail) for one in found if one.verdict is not Verdict.SAME} == {}
    stages = [one.stage for one in found]
    assert stages[0] == "inventory" and stages[-2:] == ["checkpoint", "evaluation"] and "packing" in stages
    assert again.find(whole.checkpoints[1])  # how far beyond it a model this small gets until it is ended is chance


class Nowhere:
    """Knows no step."""

    def step(self, ref: ArtifactRef, shards: Collection[str]) -> Step:
        raise RecipeError(f"no report tells how {ref} was made")


class Given:
    """Knows one step; of anything else none."""

    def __init__(self, step: Step) -> None:
        self._step = step

    def step(self, ref: ArtifactRef, shards: Collection[str]) -> Step:
        if ref != self._step.ref:
            raise RecipeError(f"no report tells how {ref} was made")
        return self._step


def test_what_cannot_be_made_again_is_copied_and_said_to_be(tmp_path: Path) -> None:
    made, again = ArtifactStore(str(tmp_path / "made")), ArtifactStore(str(tmp_path / "again"))
    built = build(made, toy({"a": [1, 2], "b": [3]}), Here())
    found = reproduce(Reproduction(made=made, again=again, origins=Nowhere(), workers=Here()), built.ref)
    assert [(one.verdict, one.detail) for one in found] == [
        (Verdict.COPIED, f"no report tells how {built.ref} was made")
    ]
    assert again.verify(built.ref) == []


def test_a_stage_that_comes_out_otherwise_is_named_and_so_is_what_follows(tmp_path: Path) -> None:
    """The other store has other rows under the same address, as a stage has that changed without another version."""
    made, again = ArtifactStore(str(tmp_path / "made")), ArtifactStore(str(tmp_path / "again"))
    first = toy({"a": [1, 2], "b": [3]}, stage="first")
    second = toy({"c": [5]}, stage="second", inputs={"first": first.ref})
    build(made, first, Here())
    built = build(made, second, Here())
    other = build(ArtifactStore(str(tmp_path / "other")), toy({"a": [1, 2], "b": [4]}, stage="first"), Here()).manifest
    for one in other.objects:
        again.storage.put(one.path, ArtifactStore(str(tmp_path / "other")).storage.read(one.path))
    again.publish(replace(other, ref=first.ref))
    found = reproduce(Reproduction(made=made, again=again, origins=Given(second), workers=Here()), built.ref)
    assert [one.verdict for one in found] == [Verdict.DIFFERENT, found[1].verdict]
    assert found[0].detail == "1 of 2 objects have other contents: b"
    assert found[1].inputs_differ == (first.ref.address,)


def test_other_bytes_of_the_same_rows_are_told_apart_from_other_rows(tmp_path: Path) -> None:
    manifest = build(ArtifactStore(str(tmp_path)), toy({"a": [1], "b": [2]}), Here()).manifest
    shards = [replace(s, objects=tuple(replace(o, sha256="0" * 64) for o in s.objects)) for s in manifest.shards]
    assert compare(manifest, manifest) == (Verdict.SAME, "2 objects")
    assert compare(manifest, replace(manifest, shards=tuple(shards)))[0] is Verdict.ROWS
    verdict, detail = compare(manifest, replace(manifest, shards=manifest.shards[:1]))
    assert verdict is Verdict.DIFFERENT and "1 of 2 objects are missing: b" in detail


def test_what_is_not_as_it_was() -> None:
    before = {"python": "3.11.7", "processor": "one", "gpus": [], "packages": {"numpy": "1", "torch": "2", "gone": "3"}}
    now = {**before, "processor": "two", "packages": {"numpy": "1", "torch": "2.1", "new": "1"}, "threads": "2"}
    assert environment_differences(before, now) == (
        "processor: one -> two",
        "gone: 3 -> not installed",
        "torch: 2 -> 2.1",
    )


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, Verdict.SAME), (0.01, Verdict.NEAR), (0.05, Verdict.DIFFERENT)])
def test_the_rule_for_runs_that_are_not_bit_equal(tmp_path: Path, shift: float, verdict: Verdict) -> None:
    run = ArtifactRef(kind=Kind.RUN, name="toy", fingerprint="f" * 64)
    stores = [ArtifactStore(str(tmp_path / name)) for name in ("made", "again")]
    for store, more in zip(stores, (0.0, shift), strict=True):
        lines = [json.dumps({"step": step, "loss": 5.0 - 0.01 * step + more}) for step in range(1, 41)]
        store.storage.put(f"{run.address}/metrics/000001-00000001.jsonl", "\n".join(lines).encode())
    work = Reproduction(made=stores[0], again=stores[1], origins=Nowhere(), workers=Here())
    found, detail = training._losses(work, run, 40)
    assert found is verdict, detail


@pytest.mark.s3
def test_what_two_ranks_trained_in_a_bucket_is_made_again_bit_equal(
    bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run and its checkpoint half way, on as many ranks as they had, from one prefix to another."""
    from flows.command.main import main

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    local = tiny_run(tmp_path, steps=6, save_every=3)
    run = replace(local, store=f"s3://{bucket}/made")
    made, again = ArtifactStore(run.store), f"s3://{bucket}/again"
    for one in ArtifactStore(local.store).storage.walk(""):
        made.storage.put(one.path, ArtifactStore(local.store).storage.read(one.path))
    put_run_file(made, run)
    job = Job(run, tmp_path, 2)
    assert job.wait() == 0, job.output
    assert made.manifest(run.ref).counts["steps"] == 6 and made.manifest(run.checkpoint(3)).counts["ranks"] == 2

    for ref, said in ((run.ref, "the losses of all 6 steps are equal"), (run.checkpoint(3), "on 2 ranks")):
        code = main(["reproduce", ref.address, "--store", run.store, "--to", again, "--json"])
        found = json.loads(capsys.readouterr().out)["outcomes"]
        assert code == 0 and found[1]["verdict"] == "same bytes" and said in found[1]["detail"], found
    assert ArtifactStore(again).manifest(run.checkpoint(6)).counts["ranks"] == 2
