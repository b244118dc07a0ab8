"""Steps that are not finite: counted on the device, and the same outcome however often the host looks."""

from __future__ import annotations

import pytest
import torch

from olmo_core.train.non_finite import NonFinite, Streak

NAN = float("nan")


def outcome(bad: set[int], every: int, limit: int = 3, last: int = 20) -> tuple[list[int], Streak | None]:
    """Judge steps, those in `bad` not finite, looking `every` steps; batch numbers are 100 more than steps."""
    judged = NonFinite(limit, torch.device("cpu"))
    left_out = []
    for step in range(1, last + 1):
        if judged.judge(torch.tensor([1.0, NAN if step in bad else 2.0]), step, step + 100):
            left_out.append(step)
        if step % every == 0 and (found := judged.settle(*judged.state.tolist())) is not None:
            return left_out, found
    return left_out, None


@pytest.mark.parametrize("every", [1, 2, 5, 20])
def test_the_first_streak_of_the_limit_is_found(every: int) -> None:
    left_out, streak = outcome({2, 3, 7, 8, 9, 10, 14}, every)
    assert set(left_out) >= {2, 3, 7, 8, 9}
    assert streak == Streak(first_step=7, batches=(107, 108, 109))
    assert streak.span == (107, 110)


@pytest.mark.parametrize("every", [1, 4])
def test_single_ones_are_left_out_and_no_more(every: int) -> None:
    assert outcome({2, 3, 7, 20}, every) == ([2, 3, 7, 20], None)


def test_what_is_under_way_is_known() -> None:
    judged = NonFinite(5, torch.device("cpu"))
    for step, value in enumerate([1.0, NAN, NAN], 1):
        judged.judge(torch.tensor([value]), step, step + 10)
    assert judged.settle(*judged.state.tolist()) is None
    assert judged.batches == [12, 13]


@pytest.mark.parametrize("value", [NAN, float("inf"), float("-inf")])
def test_every_kind_counts(value: float) -> None:
    assert NonFinite(3, torch.device("cpu")).judge(torch.tensor([1.0, value]), 1, 0)
