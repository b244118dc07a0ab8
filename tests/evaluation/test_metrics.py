"""Metrics from raw scores: what wins under each normalisation, ties, failures, MC2."""

from __future__ import annotations

import numpy as np
import pytest

from olmo_core.errors import IntegrityError
from olmo_core.evaluation.items import Benchmark, Format, Item
from olmo_core.evaluation.metrics import evaluate, exact_match, ranking
from olmo_core.evaluation.scores import ItemScores, scores_of


def benchmark(form: Format = "catwalk", count_leading_space: bool = True) -> Benchmark:
    return Benchmark(
        name="toy",
        version=1,
        format=form,
        primary="acc_raw",
        split="validation",
        documents=1,
        count_leading_space=count_leading_space,
    )


def item(name: str, choices: tuple[str, ...], gold: int = 0) -> Item:
    return Item(id=name, contexts=("q",), choices=choices, gold=gold, unconditional="Answer:")


def test_every_normalisation_from_one_pass() -> None:
    """Worked by hand: a long choice loses as it is and wins for each character, token and byte."""
    one = item("a", (" né", " much longer"))
    scores = scores_of([[(" né", -4.0, -1.0, 1, "ok"), (" much longer", -6.0, -8.0, 3, "ok")]], ["a"])
    found = evaluate(benchmark(), [one], scores)
    assert {name: found[name].values[0] for name in ("acc_raw", "acc_per_token", "acc_per_char", "acc_per_byte")} == {
        "acc_raw": 1.0,  # -4 > -6
        "acc_per_token": 0.0,  # -4 < -2
        "acc_per_char": 0.0,  # -4/3 < -6/12
        "acc_per_byte": 0.0,  # -4/4 < -6/12
    }
    assert found["acc_uncond"].values[0] == 0.0  # -4 - -1 = -3 < -6 - -8 = 2
    assert found["bits_per_byte"].values[0] == pytest.approx(4.0 / 4 / np.log(2))
    assert found["margin"].values[0] == pytest.approx(-4 / 3 + 6 / 12)
    assert found["probability"].values[0] == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_unconditional_is_a_difference_not_a_quotient() -> None:
    """The in-loop reference divides: -2/-10 = 0.2 against -9/-10 = 0.9, and so takes the worse choice."""
    scores = scores_of([[(" x", -2.0, -10.0, 1, "ok"), (" y", -9.0, -10.0, 1, "ok")]], ["a"])
    assert evaluate(benchmark(), [item("a", (" x", " y"))], scores)["acc_uncond"].values[0] == 1.0
    quotient = scores.log_likelihood / scores.unconditional
    assert quotient.argmax() == 1


def test_leading_space_counts_only_where_the_format_says_so() -> None:
    scores = scores_of([[(" ab", -3.0, None, 1, "ok"), ("abc", -3.3, None, 1, "ok")]], ["a"])
    assert ranking("acc_per_char", scores, True).tolist() == pytest.approx([-1.0, -1.1])
    assert ranking("acc_per_char", scores, False).tolist() == pytest.approx([-1.5, -1.1])
    assert np.isnan(evaluate(benchmark(), [item("a", (" ab", "abc"))], scores)["acc_uncond"].values).all()


def test_a_tie_is_shared_and_counted() -> None:
    """SciQ's right choice is always the last: whoever takes the first or the last of equals is wrong or lucky."""
    rows = [[(" x", -2.0, None, 1, "ok")] * 4, [(" x", -1.0, None, 1, "ok"), *[(" x", -2.0, None, 1, "ok")] * 3]]
    items = [item("a", (" x",) * 4, gold=3), item("b", (" x",) * 4, gold=0)]
    found = evaluate(benchmark(), items, scores_of(rows, ["a", "b"]))["acc_raw"]
    assert found.values.tolist() == [0.25, 1.0] and found.ties == 1


@pytest.mark.parametrize("status", ["empty", "not_finite", "too_long"])
def test_a_failure_is_counted_and_never_scored(status: str) -> None:
    rows = [
        [(" x", -2.0, None, 1, status), (" y", -1.0, None, 1, "ok")],
        [(" x", -1.0, None, 1, "truncated"), (" y", -2.0, None, 1, "ok")],
    ]
    scores = scores_of(rows, ["a", "b"])  # type: ignore[arg-type]
    found = evaluate(benchmark(), [item("a", (" x", " y")), item("b", (" x", " y"))], scores)
    for metric in found.values():
        assert np.isnan(metric.values[0])
    assert found["acc_raw"].mean == 1.0 and found["acc_raw"].scored == 1
    assert scores.count() == {"ok": 2, "truncated": 1, status: 1}


def test_mc2_is_the_mass_of_the_right_choices() -> None:
    one = Item(id="a", contexts=("q",), choices=(" a", " b", " c"), golds=(0, 2))
    probabilities = np.array([0.2, 0.5, 0.1])
    scores = scores_of(
        [[(c, float(np.log(p)), None, 1, "ok") for c, p in zip(one.choices, probabilities, strict=True)]], ["a"]
    )
    found = evaluate(benchmark(), [one], scores)
    assert found["mc2"].mean == pytest.approx(0.3 / 0.8) and "acc_raw" not in found


def test_generated_answers() -> None:
    items = [Item(id=str(i), contexts=("q",), answer="18") for i in range(3)]
    found = exact_match(items, ["18", "18.0", None])
    assert found.values[:2].tolist() == [1.0, 0.0] and np.isnan(found.values[2]) and found.scored == 2


def test_scores_come_back_from_their_table_as_they_were() -> None:
    rows = [
        [(" é", -2.0, -1.0, 1, "ok"), (" y", -1.0, None, 2, "too_long")],
        [("x", -1.0, -3.0, 1, "truncated"), (" z", -4.0, -2.0, 1, "ok")],
    ]
    scores = scores_of(rows, ["b", "a"])  # type: ignore[arg-type]
    back = ItemScores.from_table(scores.table())
    assert back.table().equals(scores.table()) and back.items == ("b", "a") and back.offsets.tolist() == [0, 2, 4]
    with pytest.raises(IntegrityError, match="out of order"):
        ItemScores.from_table(scores.table().slice(1))
    with pytest.raises(IntegrityError, match="other items"):
        evaluate(benchmark(), [item("a", (" x", " y")), item("b", (" x", " y"))], scores)
