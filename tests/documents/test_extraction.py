"""The extraction process: what hangs or crashes costs its page, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from olmo_core.documents.extraction import Extracted, Extraction, ExtractionSettings, Page, in_batches
from olmo_core.errors import WorkerError


def settings(function: str = "obedient", **changes: object) -> ExtractionSettings:
    values: dict[str, object] = {
        "function": f"tests.documents.hostile_extractors:{function}",
        "options": {},
        "page_seconds": 0.3,
        "memory_bytes": 1 << 30,
    }
    return ExtractionSettings(**{**values, **changes})  # type: ignore[arg-type]


def run(extraction: Extraction, *pages: str) -> list[Extracted]:
    extraction.send([Page(True, None, page.encode()) for page in pages])
    return list(extraction.answers())


@pytest.fixture(scope="module")
def extraction() -> Iterator[Extraction]:
    with Extraction(settings()) as one:
        yield one


@pytest.mark.parametrize(
    ("bad", "outcome", "said"),
    [
        ("spin", "timeout", "more than 0.3 s of CPU time"),
        ("regex", "timeout", "more than 0.3 s of CPU time"),
        ("crash", "failed", "died of SIGSEGV"),
        ("exit", "failed", "ended with code 7"),
        ("memory", "failed", "out of memory (at most 1073741824 bytes)"),
        ("raise", "failed", "ValueError: that page"),
        ("surrogate", "failed", "UnicodeEncodeError"),
        ("nothing", "no_text", ""),
    ],
)
def test_a_bad_page_costs_itself_and_no_other(extraction: Extraction, bad: str, outcome: str, said: str) -> None:
    before, found, between, again, after = run(extraction, "before", f"{bad} page", "between", f"{bad} page", "after")
    assert [one.text for one in (before, between, after)] == ["BEFORE", "BETWEEN", "AFTER"]
    assert found == again
    assert found.outcome == outcome and said in found.detail
    assert run(extraction, "next batch")[0].text == "NEXT BATCH"


def test_a_page_that_fails_only_behind_others_is_extracted_alone(extraction: Extraction) -> None:
    answers = run(extraction, "one", "hoard this", "three")
    assert [(a.outcome, a.text) for a in answers] == [("text", "ONE"), ("text", "HOARD THIS"), ("text", "THREE")]


def test_a_page_that_waits_for_something_is_ended_by_the_clock() -> None:
    with Extraction(settings(wall_seconds=4)) as extraction:
        first, second = run(extraction, "sleep", "awake")
    assert (first.outcome, first.detail) == ("timeout", "no answer for 4 s by the clock")
    assert second.text == "AWAKE"


def test_bytes_that_are_no_text_are_said_to_be_so(extraction: Extraction) -> None:
    noise = bytes(n * n * 7 % 251 for n in range(4000))
    extraction.send(
        [Page(True, "utf-8", noise), Page(False, "koi8-r", "обычный текст на русском языке".encode("koi8-r"))]
    )
    bad, plain = extraction.answers()
    assert bad.outcome == "undecodable"
    assert (plain.text, plain.charset) == ("обычный текст на русском языке", "koi8-r")


def test_an_extractor_that_does_not_start_is_an_error_with_its_reason() -> None:
    with Extraction(settings("absent")) as extraction, pytest.raises(WorkerError, match="no such extractor here"):
        run(extraction, "x")


def test_no_page_no_process() -> None:
    with Extraction(settings("absent")) as extraction:
        assert run(extraction) == []


def test_the_process_ends_with_the_block_and_its_cpu_time_is_known() -> None:
    with Extraction(settings(page_seconds=5)) as extraction:
        pid = int(run(extraction, "pid")[0].text)
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_process_dies_with_its_owner_even_in_the_middle_of_a_page(tmp_path: Path) -> None:
    """SIGKILL to the owner; the page would spin for ever."""
    script = (
        "import sys\n"
        "from tests.documents.test_extraction import settings, Extraction, Page\n"
        "e = Extraction(settings(page_seconds=1000))\n"
        "e.send([Page(True, None, b'pid'), Page(True, None, b'spin')])\n"
        "print(next(e.answers()).text, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 120
    while _runs(pid):
        assert time.monotonic() < deadline, "the extraction process outlived its owner"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("Z", "X")


def test_order_and_number_are_kept_over_batches(extraction: Extraction) -> None:
    """Items with and without a page, more than a batch of each, some pages failing."""

    def items() -> Iterator[tuple[str, Page | None]]:
        for n in range(3000):
            if n % 10 == 0:
                yield f"{n}", Page(True, None, (f"exit {n}" if n == 1500 else f"page {n}").encode())
            else:
                yield f"{n}", None

    def finish(item: str, answer: Extracted | None) -> str:
        assert answer is not None
        return f"{item} {answer.outcome} {answer.text}"

    found = list(in_batches(items(), extraction, finish))
    assert len(found) == 3000
    for n, one in enumerate(found):
        expected = f"{n}" if n % 10 else f"{n} text PAGE {n}" if n != 1500 else "1500 failed "
        assert one == expected
