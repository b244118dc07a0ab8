"""What a training run or a checkpoint came to, for `olmo artifacts show`: losses, tokens, time, energy."""

from __future__ import annotations

from datetime import datetime

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.report.markdown import count
from olmo_core.report.training import energy, verdict
from olmo_core.train.progress import duration
from olmo_core.train.run_record import baseline_of, run_of


def trained(store: ArtifactStore, manifest: Manifest) -> list[tuple[str, str]]:
    """Return names and values; none for other kinds of artifacts."""
    if manifest.ref.kind not in (Kind.RUN, Kind.CHECKPOINT):
        return []
    counts, of_run = manifest.counts, manifest.ref.kind == Kind.RUN
    found = [
        ("loss", _nats(counts.get("loss"))),
        ("held out", _nats(counts.get("held_out_loss"))),
        *_bigram(store, manifest),
        ("step", f"{int(counts.get('steps' if of_run else 'step', 0)):,}"),
        ("tokens", count(float(counts.get("tokens", 0)))),
    ]
    if of_run:
        began, ended = _moment(manifest.started), _moment(manifest.ended)
        took = duration((ended - began).total_seconds()) if began and ended else "not noted"
        found += [
            ("time", f"{took}, from the first start to the end"),
            ("energy", energy(counts)),
            ("parameters", f"{int(counts.get('parameters', 0)):,}"),
            ("devices", f"{counts.get('devices', '?')} ({counts.get('device', '?')})"),
            (
                "checkpoints",
                f"{len(counts.get('checkpoints', ())):,}; `olmo artifacts ls checkpoint/{manifest.ref.name}`",
            ),
        ]
    else:
        run = run_of(manifest)
        found += [("saved", manifest.ended), ("run", f"{run}; `olmo artifacts show {run}` tells its time and energy")]
    return found


def _bigram(store: ArtifactStore, manifest: Manifest) -> list[tuple[str, str]]:
    """Return the row on the bigram model of the same tokens, where train-olmo has measured one; no row where it has not."""
    measured, held_out = baseline_of(store, run_of(manifest)), manifest.counts.get("held_out_loss")
    if measured is None or held_out is None:
        return []
    loss = float(measured["loss"])
    return [("bigram model", f"{_nats(loss)} {measured['note']}: this is {verdict(float(held_out), loss)}")]


def _nats(value: object) -> str:
    return f"{float(value):.3f} nats per token" if isinstance(value, int | float) else "not measured"


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
