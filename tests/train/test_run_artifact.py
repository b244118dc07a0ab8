"""What a finished run leaves: metrics of several trainers merged, events, and the list of its checkpoints."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError, SupersededError
from olmo_core.train import fence, run_artifact
from tests.train.small_run import Trainer, run_file


def lines(steps: range, **more: Any) -> bytes:
    return b"".join(json.dumps({"step": s, "tokens": s * 32, **more}).encode() + b"\n" for s in steps)


def test_a_run_is_put_together_from_what_its_trainers_wrote(tmp_path: Path) -> None:
    uri = str(tmp_path / "store")
    run, store = run_file(uri), ArtifactStore(uri)
    first = Trainer(run, shard=False)
    first.save()
    trainer = Trainer(run, shard=False)
    trainer.train(2)
    trainer.save()
    parts = f"{run.ref.address}/metrics"
    for name, body, age in [
        ("000001-00000001", lines(range(1, 4), loss=5.0), 90),
        ("000001-00000004", lines(range(4, 6), loss=5.0), 80),
        ("000002-00000003", lines(range(3, 9), loss=4.0, held_out_loss=None), 70),
        ("000002-00000009", lines(range(9, 11), loss=float("1e3")), 60),
        ("000002-00000006", lines(range(6, 10), loss=3.0, held_out_loss=3.5), 50),  # after a rollback
    ]:
        store.storage.put(f"{parts}/{name}.jsonl", body)
        os.utime(Path(uri) / parts / f"{name}.jsonl", (time.time() - age,) * 2)
    store.storage.put(f"{run.ref.address}/events/000001-0000.json", b'{"event": "preempted"}')
    store.storage.put(f"{run.ref.address}/events/000002-0000.json", b'{"event": "resumed"}')
    with pytest.raises(SupersededError):
        run_artifact.publish(store, run, 1, trainer.state())
    assert store.find(run.ref) is None
    manifest = run_artifact.publish(store, run, 2, trainer.state(skipped=((5, 7),)), {"energy_kwh": 0.5})
    read = {o.key: store.storage.read(o.path).splitlines() for o in manifest.objects}
    metrics = [json.loads(line) for line in read["metrics.jsonl"]]
    assert [(m["step"], m["loss"]) for m in metrics] == [
        (1, 5.0), (2, 5.0), (3, 4.0), (4, 4.0), (5, 4.0), (6, 3.0), (7, 3.0), (8, 3.0), (9, 3.0), (10, 1e3),
    ]  # fmt: skip
    assert [json.loads(e)["event"] for e in read["events.jsonl"]] == ["preempted", "resumed"]
    assert json.loads(read["curve.jsonl"][5]) == {"step": 6, "tokens": 192, "loss": 3.0, "held_out_loss": 3.5}
    assert manifest.inputs == run.inputs and manifest.ref == store.resolve("run/small")
    counts = manifest.counts
    assert (counts["steps"], counts["energy_kwh"], counts["skipped"], counts["loss"]) == (2, 0.5, [[5, 7]], 1e3)
    assert [(c["step"], c["fingerprint"]) for c in counts["checkpoints"]] == [
        (s, run.checkpoint(s).fingerprint) for s in (0, 2)
    ]
    assert manifest.started == fence.holder(store, run.ref, 1).since and store.verify(manifest) == []
    assert run_artifact.publish(store, run, 2, trainer.state()).attempt == manifest.attempt, "once"


def test_the_curve_is_thin_but_has_all_held_out_losses() -> None:
    every = [
        {"step": s, "loss": 1.0, "grad_norm": 2.0, "held_out_loss": 1.5 if s == 1234 else None} for s in range(5003)
    ]
    shown = run_artifact.curve(every)
    assert len(shown) <= run_artifact.CURVE_POINTS + 2 and "grad_norm" not in shown[0]
    assert {0, 1234, 5002} <= {one["step"] for one in shown}


@pytest.mark.parametrize(
    "body, message", [(b'{"step": 1', "cannot be read"), (b"[1]", "holds"), (b'{"loss": 1}', "without `step`")]
)
def test_metrics_that_cannot_be_read_are_named(body: bytes, message: str, tmp_path: Path) -> None:
    run, store = run_file(str(tmp_path)), ArtifactStore(str(tmp_path))
    path = f"{run.ref.address}/metrics/000001-00000001.jsonl"
    store.storage.put(path, body)
    with pytest.raises(IntegrityError, match=f"{path} .*{message}"):
        run_artifact.merged_metrics(store, run)
