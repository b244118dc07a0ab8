"""Items: what cannot be one, what a selection may be, what is counted."""

from __future__ import annotations

import pytest

from olmo_core.errors import InputError, RecipeError
from olmo_core.evaluation.benchmarks.definitions import find
from olmo_core.evaluation.items import Item, Items, Selection, baselines, check_ids, checked


def item(**changes: object) -> Item:
    values: dict[str, object] = {"id": "1", "contexts": ("Q",), "choices": (" a", " b"), "gold": 1}
    return Item(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gold": 2}, "right choice 2, but 2 choices"),
        ({"gold": -1}, "right choice -1, but 2 choices"),
        ({"gold": None, "golds": (0, 5)}, "right choice 5, but 2 choices"),
        ({"gold": None}, "no right choice; is the file a split without labels"),
        ({"choices": (" a",), "gold": 0}, "1 choices; at least 2"),
        ({"contexts": ()}, "0 contexts for 2 choices"),
        ({"contexts": ("a", "b", "c")}, "3 contexts for 2 choices"),
    ],
)
def test_what_cannot_be_asked_is_an_error_that_names_the_item(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"thing: item 1 .*{message}"):
        checked(item(**changes), "thing")


def test_what_can_be_asked_is_given_back() -> None:
    for sound in (
        item(),
        item(contexts=("a", "b")),
        item(gold=None, golds=(0, 1)),
        item(choices=(), gold=None, answer="4"),
    ):
        assert checked(sound, "thing") is sound


def test_two_items_of_one_id() -> None:
    with pytest.raises(InputError, match="thing: two items have the id 1"):
        check_ids([item(), item(id="2"), item()], "thing")


def test_selection_refuses_what_means_nothing() -> None:
    with pytest.raises(RecipeError, match="limit of a benchmark is 0"):
        Selection(limit=0)
    with pytest.raises(RecipeError, match="shots of a benchmark are -1"):
        Selection(shots=-1)


def test_problems_are_counted() -> None:
    made = (item(), item(id="2", problem="empty_choice"))
    items = Items(benchmark=find("piqa"), selection=Selection(), items=made, population=2, files={})
    assert items.problems == {"empty_choice": 1}


def test_baselines() -> None:
    made = [item(), item(gold=0, choices=(" a", " b", " c", " d")), item(), item(gold=None, golds=(0,))]
    assert baselines(made) == (pytest.approx((0.5 + 0.25 + 0.5) / 3), pytest.approx(2 / 3))
