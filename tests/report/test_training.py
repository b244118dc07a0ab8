"""The curve is a picture that grows and stays small; the card says what came out."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest

from olmo_core.report.training import CardFacts, card, curve, last_of, picture, series, smoothed, thinned


def lines(count: int, first: int = 1) -> list[dict[str, Any]]:
    """A run's metrics: a loss that falls, a held-out loss now and then, a step without a loss."""
    found: list[dict[str, Any]] = [{"step": 0, "tokens": 0, "held_out_loss": 11.0}]
    for step in range(first, first + count):
        loss = None if step == 7 else 4 + 7 * math.exp(-step / 50)
        found.append(
            {"step": step, "loss": loss, "learning_rate": 1e-3, "tokens_per_second_per_device": 1000.0, "mfu": None}
        )
    found[-1]["held_out_loss"] = 4.5
    return found


def facts(**changes: Any) -> CardFacts:
    values: dict[str, Any] = {
        "name": "tiny",
        "run": "run/tiny/0123",
        "tokens": "tokens/web/4567",
        "held_out": "tokens/web-validation/89ab",
        "store": "/data/store",
        "parameters": 7_487_488,
        "model": "4 layers of width 128",
        "counts": {"steps": 100, "tokens": 204_800},
        "steps": lines(100),
        "events": [{"kind": "resumed", "step": 40, "message": "resumed from step 40"}],
        "checkpoints": [(0, "checkpoint/tiny/aa", ""), (100, "checkpoint/tiny/bb", "latest, step100-tokens0B")],
        "baseline": 5.25,
        "baseline_note": "(Kneser-Ney smoothing)",
    }
    return CardFacts(**{**values, **changes})


@pytest.mark.parametrize("count", [0, 1, 200, 20_000])
def test_curve_is_a_png_of_fixed_size_however_long_the_run(count: int) -> None:
    """Small enough for the dashboard, with events that lie outside of what was drawn too."""
    events = [{"kind": "resumed", "step": 50}, {"kind": "rollback", "step": 90}, {"kind": "preempted"}]
    png = curve(lines(count)[: count + 1], events, title="tiny", total_steps=300, baseline=5.0)
    assert png.startswith(b"\x89PNG") and struct.unpack(">II", png[16:24]) == (900, 460)
    assert len(picture(png, "loss")) < 200_000


def test_points_without_a_number_are_left_out() -> None:
    at, loss = series([*lines(10), {"step": 11, "loss": math.nan}], "loss")
    assert at.tolist() == [1, 2, 3, 4, 5, 6, 8, 9, 10] and len(loss) == 9
    assert last_of(lines(10), "held_out_loss") == 4.5 and last_of([], "loss") is None


def test_thinning_keeps_means_and_smoothing_is_centred() -> None:
    """By a plain loop."""
    y = np.random.default_rng(1).random(5000)
    x, thin = thinned(np.arange(5000), y, 1000)
    assert len(x) == 1000 and np.allclose(thin, y.reshape(1000, 5).mean(1)) and np.allclose(x[:2], [2, 7])
    reach = [min(2, i, 199 - i) for i in range(200)]
    assert np.allclose(smoothed(y[:200]), [y[i - r : i + r + 1].mean() for i, r in enumerate(reach)])
    assert np.allclose(smoothed(y[:50]), y[:50]), "nothing to smooth in a short run"


def test_card_compares_with_the_bigram_model_and_says_how_to_go_on() -> None:
    text = card(facts())
    for word in ("**4.500**", "5.250 (Kneser-Ney", "0.750 nats better than the bigram model", "resumed: 1"):
        assert word in text
    for word in (
        "olmo generate tiny --prompt",
        "--store /data/store",
        "step100-tokens0B",
        "no number: the device",
    ):
        assert word in text
    assert "WORSE" in card(facts(baseline=4.0))


def test_card_without_what_could_not_be_measured() -> None:
    """Says so, instead of a number."""
    bare = facts(
        held_out=None, baseline=None, baseline_note="(no held-out tokens)", steps=[], events=[], checkpoints=[]
    )
    text = card(bare)
    for word in (
        "nothing to compare with",
        "(no held-out tokens)",
        "no number: the machine has no meter",
        "None is left",
    ):
        assert word in text
    energy = card(facts(counts={"steps": 1, "tokens": 2, "energy_kwh": 12.5, "co2_kg": 5.0}))
    assert "12.5 kWh, 5 kg CO2e" in energy
