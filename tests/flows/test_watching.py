"""The quickstart's short view of a run, fed with what Prefect 3.8.8 has really printed."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from flows.command.server_api import ServerError
from flows.command.watching import Watched, watch

OUTPUT = """\
Creating flow run for deployment 'build-dolma/build-dolma'...
Created flow run 'stylish-wapiti'.
└── UUID: 532b0c4d-9fc8-4eeb-8a5f-cef988c54c72
└── Parameters: {'recipe': 'quickstart'}
└── Scheduled start time: 2026-11-21 11:42:48 UTC (now)
└── URL: http://127.0.0.1:29471/v2/runs/flow-run/532b0c4d-9fc8-4eeb-8a5f-cef988c54c72
● 11:42:50.480 cef988c54c72 prefect.flow-run.Pending * stylish-wapiti
●      :51.235 cef988c54c72 prefect.worker.submitted-flow-run * cpu@vm
●   :43:03.485 cef988c54c72 prefect.flow-run.pull-step.executed * \nprefect.flow-run.532b0c4d-9fc8-4eeb-8a5f-cef988c54c72
●      :19.563 cef988c54c72 prefect.flow-run.Running * quickstart-532b0c4d
●      :20.366 cef988c54c72 prefect.flow-run.heartbeat * quickstart-532b0c4d
●         .415 a38acd440705 prefect.task-run.Pending * inventory/prose-e10
●         .428 a38acd440705 prefect.task-run.Running * inventory/prose
●         .437 cc60f6fdd05e prefect.task-run.Pending * documents/prose-a8c
●         .160 763e3c271341 prefect.task-run.Pending * near-duplicates/all-2f8
●      :24.691 cef988c54c72 prefect.artifact-collection.created * \nprogress-quickstart-documents-prose
●         .146 a38acd440705 prefect.task-run.Reused * inventory/prose
●         .209 cc60f6fdd05e prefect.task-run.Running * documents/prose
●         .134 cc60f6fdd05e prefect.task-run.Completed * documents/prose
●         .508 763e3c271341 prefect.task-run.Running * near-duplicates/all
●         .508 763e3c271341 prefect.task-run.AwaitingRetry * near-duplicates/all
●      :50.301 763e3c271341 prefect.task-run.Failed * near-duplicates/all
Flow run failed.
"""
LOGS = [
    "Created task run",
    "inventory/prose: reused inventory/prose/0123",
    "documents/prose: built documents/prose/4567; 1,234 documents in, 1,200 kept, 34 dropped; 3 shards built",
]


def test_events_become_a_line_for_each_stage() -> None:
    out, asked = io.StringIO(), []

    def logs(run: str) -> list[str]:
        asked.append(run)
        return LOGS

    watched = Watched(logs, out)
    for line in OUTPUT.splitlines(keepends=True):
        watched.line(line)
    watched.end()
    assert out.getvalue().splitlines() == [
        "Created flow run 'stylish-wapiti'.",
        "URL: http://127.0.0.1:29471/v2/runs/flow-run/532b0c4d-9fc8-4eeb-8a5f-cef988c54c72",
        "stylish-wapiti: Pending",
        "quickstart-532b0c4d: Running",
        "[  1 of 3] inventory/prose      reused",
        "[  2 of 3] documents/prose      1,234 documents in, 1,200 kept, 34 dropped; 3 shards built",
        "near-duplicates/all: Failed",
        "Flow run failed.",
    ]
    assert set(asked) == {"532b0c4d-9fc8-4eeb-8a5f-cef988c54c72"}


def test_numbers_that_come_late_or_never() -> None:
    out, said = io.StringIO(), ["documents/prose: built a/b/c; 7 in"]
    watched = Watched(lambda _: said, out)
    for line in OUTPUT.splitlines():
        watched.line(line)
        if "Reused" in line:
            assert "[" not in out.getvalue(), "waits for its number"
    watched.end()
    assert "[  1 of 3] documents/prose      7 in\n" in out.getvalue()
    assert "[  2 of 3] inventory/prose      done\n" in out.getvalue()


class Gone:
    """A server that does not answer."""

    def find(self, kind: str, **body: object) -> list[dict[str, object]]:
        raise ServerError("gone")


def test_the_whole_output_is_kept_and_the_exit_code_too(tmp_path: Path) -> None:
    code = f"import sys; print({json.dumps(OUTPUT)}, end=''); print('an error', file=sys.stderr); sys.exit(3)"
    out = io.StringIO()
    log = tmp_path / "new" / "quickstart.log"
    assert watch([sys.executable, "-X", "utf8", "-c", code], log, Gone(), out) == 3  # type: ignore[arg-type]
    assert log.read_text(encoding="utf-8").replace("an error\n", "") == OUTPUT
    assert "[  2 of 3] documents/prose      done" in out.getvalue()
