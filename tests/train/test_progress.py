"""Lines for a person who watches: estimates that do not jump, and no silence while something is measured."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from olmo_core.train.progress import Progress, about, typical
from tasks.training_view import summary


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (1, "about 5 s"), (43, "about 45 s"), (95, "about 2 min"), (788, "about 13 min"), (18_730, "about 5 h 12 min")],
)  # fmt: skip
def test_estimates_have_as_few_digits_as_they_deserve(seconds: float, said: str) -> None:
    assert about(seconds) == said


def test_a_slow_first_step_and_pauses_move_no_estimate() -> None:
    steps = [30.0] + [1.0, 1.0, 9.0, 1.0, 1.1, 1.0] * 3
    assert {typical(steps[: n + 1]) for n in range(2, len(steps))} <= {1.0, 1.05}
    assert typical([30.0]) == 30.0


def test_the_dashboards_line_says_about_and_counts_steps_between_lines() -> None:
    lines: list[dict[str, Any]] = [
        {"step": 10 * n, "loss": 4.0, "seconds": 20.0 if n != 5 else 300.0} for n in range(10)
    ]
    assert summary(lines, 390).endswith("about 10 min left")  # 300 steps of 2 s, one pause of 5 minutes left out


def test_a_long_evaluation_tells_how_far_it_is(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("olmo_core.train.progress.time.monotonic", lambda: now)
    progress = Progress(10)
    with caplog.at_level(logging.INFO):
        for batch in range(1, 13):
            progress.measuring(0, f"held-out loss, on batch {batch} of 12")
            now += 1.0
    assert [one.getMessage() for one in caplog.records] == [
        f"step 0: held-out loss, on batch {batch} of 12" for batch in (1, 6, 11)
    ]
