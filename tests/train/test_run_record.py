"""What a watcher sees of a run: parts once each, the latest start's line of a step, events in order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from olmo_core.artifacts.ref import ArtifactRef, Kind
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.errors import IntegrityError
from olmo_core.train.run_record import RunRecord

RUN = ArtifactRef(kind=Kind.RUN, name="tiny", fingerprint="0" * 64)


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    """The record of a run that has not begun."""
    return RunRecord(store=ArtifactStore(str(tmp_path)), run=RUN)


def part(record: RunRecord, epoch: int, *lines: dict[str, Any]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    record.store.storage.put(f"{RUN.address}/metrics/{epoch:06d}-{lines[0]['step']:08d}.jsonl", text.encode())


def test_of_a_step_the_line_of_the_latest_start_counts(record: RunRecord) -> None:
    """Whatever the order in which parts are seen; what is told of one step in two lines is put together."""
    assert not record.refresh() and record.last is None
    part(record, 2, {"step": 2, "loss": 2.2}, {"step": 3, "loss": 3.2})
    assert record.refresh()
    part(record, 1, {"step": 1, "loss": 1.1}, {"step": 2, "loss": 2.1}, {"step": 3, "loss": 3.1})
    part(record, 3, {"step": 3, "loss": 3.3}, {"step": 3, "held_out_loss": 5.0})
    assert record.refresh() and not record.refresh()
    assert record.steps == [
        {"step": 1, "loss": 1.1},
        {"step": 2, "loss": 2.2},
        {"step": 3, "loss": 3.3, "held_out_loss": 5.0},
    ]
    assert record.last == record.steps[-1]


def test_events_come_in_order_and_once(record: RunRecord) -> None:
    for name, kind in (("000002-0000", "resumed"), ("000001-0000", "started")):
        record.store.storage.put(f"{RUN.address}/events/{name}.json", json.dumps({"kind": kind}).encode())
    assert record.refresh() and not record.refresh()
    assert [event["kind"] for event in record.events.values()] == ["started", "resumed"]


def test_a_part_that_is_no_json_is_named(record: RunRecord) -> None:
    record.store.storage.put(f"{RUN.address}/metrics/000001-00000001.jsonl", b"{cut")
    with pytest.raises(IntegrityError, match=r"000001-00000001.jsonl is not JSON"):
        record.refresh()
