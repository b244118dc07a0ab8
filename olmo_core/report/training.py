"""A training run for people: the curve as a picture, and the card that says what came out and how to go on."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from olmo_core.report import markdown

Line = Mapping[str, Any]
_MOST_POINTS = 1200
"""Points of a line in the picture; of more, neighbours are averaged."""
_INK, _PALE, _HELD_OUT, _RATE, _MARK, _SKIP = "#0b6e4f", "#9cc9b8", "#c8553d", "#5c677d", "#8d99ae", "#e0a458"
_MOST_CHECKPOINTS = 10
"""Checkpoints that the card lists, from the last on."""
MARKED = {"resumed": "resumed", "extended": "extended", "rollback": "rolled back"}
"""Kinds of events that the curve marks, and what the legend calls them."""


def curve(
    steps: Sequence[Line],
    events: Sequence[Line],
    *,
    title: str,
    total_steps: int,
    baseline: float | None = None,
) -> bytes:
    """Return the loss over the steps as a PNG: training, held-out, the learning rate below, resumes and rollbacks marked.

    `steps` are lines of metrics, `events` those of the run's record (kind, step, message), `baseline` the held-out loss of a
    bigram model.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    at, loss = series(steps, "loss")
    if len(at):
        x, y = thinned(at, loss)
        above.plot(x, y, color=_PALE, linewidth=0.8, label="train")
        above.plot(x, smoothed(y), color=_INK, linewidth=1.6, label="train, smoothed")
    held_at, held = series(steps, "held_out_loss")
    if len(held_at):
        above.plot(held_at, held, color=_HELD_OUT, marker="o", markersize=4, linewidth=1.2, label="held out")
    rate_at, rate = series(steps, "learning_rate")
    if len(rate_at):
        below.plot(*thinned(rate_at, rate), color=_RATE, linewidth=1.2)
    if baseline is not None:
        above.axhline(baseline, color=_HELD_OUT, linewidth=1.0, linestyle=":", label="bigram model, held out")
    for event in events:
        if (label := MARKED.get(str(event.get("kind")))) and event.get("step") is not None:
            _line(above, int(event["step"]), label, _SKIP if label == "rolled back" else _MARK)
    if len(at) and (top := float(np.max(loss))) > (low := float(np.min(loss))):
        # The first steps fall steeply: what matters is below, but nothing is cut off while there is little else.
        above.set_ylim(low - 0.05 * (top - low), min(top, low + 1.3 * (float(np.quantile(loss, 0.97)) - low)) + 0.05)
    above.set_xlim(0, max(total_steps, int(at[-1]) if len(at) else 1))
    above.set_ylabel("loss (nats per token)")
    above.set_title(title, fontsize=10)
    above.grid(alpha=0.25)
    below.set_ylabel("rate")
    below.set_xlabel("step")
    below.ticklabel_format(axis="y", scilimits=(0, 0))
    below.grid(alpha=0.25)
    handles, labels = above.get_legend_handles_labels()
    if handles:
        unique = dict(zip(labels, handles, strict=True))
        above.legend(unique.values(), unique.keys(), fontsize=8, loc="upper right")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    return picture.getvalue()


def _line(axes: Any, step: int, label: str, colour: str) -> None:
    axes.axvline(step, color=colour, linewidth=1.2, linestyle="--", label=label)


def series(steps: Sequence[Line], name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Return the steps that have a finite value of a metric, and the values."""
    found = [(int(line["step"]), float(line[name])) for line in steps if line.get(name) is not None]
    found = [(step, value) for step, value in found if np.isfinite(value)]
    return np.array([step for step, _ in found], np.int64), np.array([value for _, value in found], np.float64)


def thinned(
    x: npt.NDArray[Any], y: npt.NDArray[np.float64], most: int = _MOST_POINTS
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return at most `most` points: neighbours averaged."""
    if len(x) <= most:
        return x.astype(np.float64), y
    edges = np.linspace(0, len(x), most + 1).astype(np.int64)[:-1]
    sizes = np.diff([*edges, len(x)])
    return np.add.reduceat(x.astype(np.float64), edges) / sizes, np.add.reduceat(y, edges) / sizes


def smoothed(y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the running mean over 1% of the points to each side, fewer at the ends."""
    half = len(y) // 100
    total = np.cumsum(np.concatenate([[0.0], y]))
    reach = np.minimum(np.minimum(np.arange(len(y)), np.arange(len(y))[::-1]), half)
    begin, end = np.arange(len(y)) - reach, np.arange(len(y)) + reach + 1
    return np.asarray((total[end] - total[begin]) / (end - begin), np.float64)


def picture(png: bytes, alternative: str) -> str:
    """Return a PNG as Markdown that the dashboard shows: the bytes are in it."""
    return f"![{alternative}](data:image/png;base64,{base64.b64encode(png).decode()})\n"


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the card of a run tells."""

    name: str
    run: str
    """Address of the run artifact."""
    tokens: str
    """Address of the tokens it was trained on."""
    held_out: str | None
    """Address of the held-out tokens."""
    store: str
    parameters: int
    model: str
    """The model in a few words."""
    counts: Mapping[str, Any]
    """Those of the run's manifest."""
    steps: Sequence[Line]
    events: Sequence[Line]
    checkpoints: Sequence[tuple[int, str, str]]
    """Step, address and tags of each."""
    baseline: float | None = None
    """Loss of a bigram model on the held-out tokens; None: not measured."""
    baseline_note: str = ""
    """How the baseline was made, or why there is none."""


def last_of(steps: Sequence[Line], name: str) -> float | None:
    """Return the last value of a metric, None where there is none."""
    found = series(steps, name)[1]
    return float(found[-1]) if len(found) else None


def card(facts: CardFacts) -> str:
    """Return the card in Markdown, without the curve."""
    counts, steps = facts.counts, facts.steps
    loss, held_out = last_of(steps[-20:], "loss"), last_of(steps, "held_out_loss")
    rows: list[tuple[str, str]] = [
        ("model", f"{facts.model}, {facts.parameters:,} parameters"),
        ("tokens", f"`{facts.tokens}`"),
        ("trained", f"{int(counts.get('steps', 0)):,} steps, {markdown.count(float(counts.get('tokens', 0)))} tokens"),
        ("loss", _number(loss)),
        ("held-out loss", f"**{_number(held_out)}**" + (f" on `{facts.held_out}`" if facts.held_out else "")),
        ("bigram model", f"{_number(facts.baseline)} {facts.baseline_note}".strip()),
        ("verdict", verdict(held_out, facts.baseline)),
        ("speed", _speed(steps)),
        ("MFU", _share(steps)),
        ("energy", energy(counts)),
        ("interruptions", _interruptions(facts.events)),
    ]
    told = [f"- step {event.get('step', '?')}: {_told(event)}" for event in facts.events]
    tags = [(step, f"`{address}`", tag) for step, address, tag in facts.checkpoints[-_MOST_CHECKPOINTS:]]
    more = len(facts.checkpoints) - len(tags)
    store = f" --store {facts.store}"
    parts = [
        f"# {facts.name}\n\n`{facts.run}` in `{facts.store}`\n",
        markdown.table(("", ""), rows, left=2),
        "## Checkpoints\n",
        markdown.table(("step", "checkpoint", "tags"), tags, left=3) if tags else "None is left.\n",
        *([f"{more} earlier ones: `olmo artifacts ls checkpoint/{facts.name}{store}`\n"] if more else []),
        *(["## What happened\n", "\n".join(told) + "\n"] if told else []),
        "## Going on\n",
        f'```\nolmo generate {facts.name} --prompt "The licence says that"{store}\nolmo inspect step {facts.name} 1{store}\n'
        f"olmo artifacts show {facts.run}{store}\nolmo artifacts lineage {facts.run}{store}\n```\n",
    ]
    return "\n".join(parts)


def _interruptions(events: Sequence[Line]) -> str:
    kinds = [str(event.get("kind")) for event in events]
    resumed, rolled_back = kinds.count("resumed"), kinds.count("rollback")
    return f"resumed: {resumed}, rolled back: {rolled_back}" if resumed or rolled_back else "none"


def _told(event: Line) -> str:
    kind, message = str(event.get("kind", "")), str(event.get("message", ""))
    return message if message.startswith(kind) else f"{kind}: {message}"


def verdict(held_out: float | None, baseline: float | None) -> str:
    """Say how much better a model is than a bigram model, by their losses on the same held-out tokens."""
    if held_out is None or baseline is None:
        return "nothing to compare with"
    less = baseline - held_out
    return f"{abs(less):.3f} nats {'better' if less > 0 else 'WORSE'} than the bigram model"


def _speed(steps: Sequence[Line]) -> str:
    values = series(steps, "tokens_per_second_per_device")[1]
    return f"{np.median(values):,.0f} tokens/s for each device (median)" if len(values) else "not measured"


def _share(steps: Sequence[Line]) -> str:
    values = series(steps, "mfu")[1]
    return f"{np.median(values):.1%} (median)" if len(values) else "no number: the device is not in the table"


def energy(counts: Line) -> str:
    """Return the energy that a run's counts tell of, and its carbon, in words."""
    energy, carbon = counts.get("energy_kwh"), counts.get("co2_kg")
    if energy is None:
        return "no number: the machine has no meter that could be read"
    return f"{energy:.4g} kWh" + (f", {carbon:.3g} kg CO2e" if carbon is not None else "")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
