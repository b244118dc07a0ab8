"""The tables of a report as rows of text, whether a terminal, Markdown or a page shows them. Accuracies are percent."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from olmo_core.evaluation.benchmarks.definitions import CORE
from olmo_core.evaluation.compare import Change, Evaluated
from olmo_core.evaluation.statistics import Interval
from olmo_core.report.evaluation.facts import Facts
from olmo_core.report.evaluation.published import MODELS

NOT_RESOLVED = "not resolved"
NORMALISATIONS = ("acc_raw", "acc_per_token", "acc_per_char", "acc_per_byte", "acc_uncond")
FAILURES = ("empty", "not_finite", "too_long")


class Table(NamedTuple):
    """A header and its rows; the first `left` columns are names, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1


def title(result: Mapping[str, Any]) -> str:
    """Return what a benchmark is called in tables: `mmlu, 5-shot`, `piqa (in-loop)`."""
    shots = f", {result['shots']}-shot" if result.get("shots") else ""
    format = " (in-loop)" if result.get("format") == "in_loop" else ""
    return f"{result.get('name', '?')}{shots}{format}" + (" (stand-in: no score)" if result.get("handmade") else "")


def percent(value: float | None) -> str:
    """Return an accuracy as the paper prints it."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def stored(result: Mapping[str, Any], metric: str) -> Interval:
    """Return a metric of a benchmark's results; NaN where it has none."""
    return stored_interval(result.get("metrics", {}).get(metric) or {"value": None, "low": None, "high": None, "n": 0})


def stored_interval(found: Mapping[str, Any]) -> Interval:
    """Return an interval of JSON values; null is NaN."""
    return Interval(
        value=number(found["value"]), low=number(found["low"]), high=number(found["high"]), n=int(found["n"])
    )


def number(value: float | None) -> float:
    """Return a number of JSON; null is NaN."""
    return math.nan if value is None else float(value)


def half(interval: Interval) -> float:
    """Return half the width of an interval."""
    return (interval.high - interval.low) / 2


def with_bar(interval: Interval, scale: float = 100.0, digits: int = 1) -> str:
    """Return `48.5 ±5.7`, an interval's value and half its width."""
    if math.isnan(interval.value):
        return "–"
    bar = half(interval)
    return f"{scale * interval.value:.{digits}f}" + ("" if math.isnan(bar) else f" ±{scale * bar:.{digits}f}")


def span(interval: Interval, scale: float = 100.0, digits: int = 1) -> str:
    """Return `42.9 to 54.1`."""
    if math.isnan(interval.low):
        return "–"
    return f"{scale * interval.low:.{digits}f} to {scale * interval.high:.{digits}f}"


def average(one: Evaluated) -> Interval | None:
    """Return the mean of the nine core benchmarks' primary metrics, their errors independent; None unless all nine are there."""
    found = {name: stored(result, result["primary"]) for name, result in _core(one).items()}
    if set(found) != set(CORE) or any(math.isnan(i.value) for i in found.values()):
        return None
    value = sum(i.value for i in found.values()) / len(found)
    bar = math.sqrt(sum(half(i) ** 2 for i in found.values())) / len(found)
    return Interval(value=value, low=value - bar, high=value + bar, n=len(found))


def average_chance(one: Evaluated) -> float | None:
    """Return what guessing reaches in the mean of the nine core benchmarks, items as they were asked; None unless all nine have it."""
    found = [result.get("chance") for result in _core(one).values()]
    known = [float(value) for value in found if value is not None]
    return sum(known) / len(known) if len(known) == len(CORE) else None


def _core(one: Evaluated) -> dict[str, Mapping[str, Any]]:
    """Return the results of the core benchmarks in Catwalk's format, by benchmark."""
    return {
        r["name"]: r
        for r in one.results.values()
        if r["kind"] == "benchmark" and r["name"] in CORE and r["format"] == "catwalk"
    }


def benchmark_rows(one: Evaluated) -> Table:
    """Return one evaluation's benchmarks: primary metric, score, interval, what guessing reaches, what was counted."""
    rows = []
    for key in _benchmarks([one]):
        result = one.results[key]
        score, status = stored(result, result["primary"]), result.get("status", {})
        chance = result.get("chance")
        rows.append(
            (
                title(result),
                f"{result['primary']} *",
                percent(score.value),
                span(score),
                percent(chance),
                percent(result.get("majority")),
                against_chance(score, chance),
                f"{result['scored']:,}",
                str(result["metrics"].get(result["primary"], {}).get("ties", 0)),
                str(status.get("truncated", 0) + status.get("cut", 0)),
                str(result["failed"]),
            )
        )
    if (mean := average(one)) is not None:
        chance = average_chance(one)
        compared = against_chance(mean, chance)
        rows.append(
            ("core average (9)", "", percent(mean.value), span(mean), percent(chance), "", compared, "", "", "", "")
        )
    header = (
        "benchmark",
        "metric",
        "score",
        "95% interval",
        "guess",
        "majority",
        "beside guessing",
        "items",
        "ties",
        "cut",
        "failed",
    )
    return Table(header, rows, left=2)


def against_chance(score: Interval, chance: float | None) -> str:
    """Return whether an interval leaves out the accuracy of guessing."""
    if chance is None or math.isnan(score.low):
        return ""
    return "above" if score.low > chance else "below" if score.high < chance else NOT_RESOLVED


def _benchmarks(evaluations: Sequence[Evaluated]) -> list[str]:
    return Facts(name="", evaluations=evaluations, changes=(), curves=()).keys("benchmark")


def score_rows(facts: Facts) -> Table:
    """Return the primary metrics of all evaluations beside each other, as the paper's tables, with error bars."""
    rows = []
    for key in facts.keys("benchmark"):
        result = facts.result(key)
        cells = [
            with_bar(stored(one.results[key], result["primary"])) if key in one.results else ""
            for one in facts.evaluations
        ]
        rows.append((title(result), result["primary"], percent(result.get("chance")), *cells))
    means = [average(one) for one in facts.evaluations]
    if any(means):
        chance = next(average_chance(one) for one, mean in zip(facts.evaluations, means, strict=True) if mean)
        cells = ["" if mean is None else with_bar(mean) for mean in means]
        rows.append(("core average (9)", "", percent(chance), *cells))
    return Table(("benchmark", "metric", "guess", *(one.label for one in facts.evaluations)), rows, left=2)


def domain_rows(facts: Facts) -> Table:
    """Return bits per byte of every domain, and of each source the mean of its domains."""
    rows: list[tuple[str, ...]] = []
    for key in facts.keys("domains"):
        result = facts.result(key)
        having = [one.results.get(key) for one in facts.evaluations]
        for domain, fit in result["domains"].items():
            cells = [_bits(r["domains"].get(domain)) if r else "" for r in having]
            rows.append((result["name"], domain, f"{fit['documents']:,}", *cells))
        means = ["" if not r or r["bits_per_byte"] is None else f"{r['bits_per_byte']:.3f}" for r in having]
        if len(result["domains"]) > 1:
            rows.append((result["name"], "mean of its domains", f"{result['documents']:,}", *means))
    return Table(("source", "domain", "documents", *(one.label for one in facts.evaluations)), rows, left=2)


def _bits(fit: Mapping[str, Any] | None) -> str:
    if not fit:
        return ""
    return with_bar(stored({"metrics": {"bits": fit["bits_per_byte"]}}, "bits"), scale=1.0, digits=3)


def change_rows(changes: Sequence[Change], results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return what changed between neighbours, with p-values corrected for all comparisons of the table (Holm)."""
    rows = []
    for one in changes:
        bits = one.metric == "bits_per_byte"
        scale, digits = (1.0, 3) if bits else (100.0, 1)
        interval = one.difference.interval
        name = title(results[one.benchmark]) if one.benchmark in results else one.benchmark
        value = "–" if math.isnan(interval.value) else f"{scale * interval.value:+.{digits}f}"
        detectable = one.difference.detectable
        rows.append(
            (
                name,
                f"{one.first} → {one.second}",
                value,
                span(interval, scale, digits),
                "–" if math.isnan(one.p) else f"{one.p:.3f}" if one.p >= 0.001 else "<0.001",
                "–" if math.isnan(detectable) else f"{scale * detectable:.{digits}f}",
                one.verdict,
            )
        )
    return Table(
        ("benchmark", "from → to", "change", "95% interval", "p (Holm)", "detectable", "verdict"), rows, left=2
    )


def normalisation_rows(one: Evaluated) -> Table:
    """Return every normalisation of one evaluation; the primary one is marked, and whether the best depends on it is left to the eye."""
    rows = []
    for key in _benchmarks([one]):
        result = one.results[key]
        found = [n for n in NORMALISATIONS if n in result["metrics"]]
        if not found:
            continue
        cells = [
            percent(stored(result, n).value) + (" *" if n == result["primary"] else "") if n in found else ""
            for n in NORMALISATIONS
        ]
        bits = stored(result, "bits_per_byte")
        rows.append((title(result), *cells, "–" if math.isnan(bits.value) else f"{bits.value:.3f}"))
    names = tuple(n.removeprefix("acc_").replace("_", " ") for n in NORMALISATIONS)
    return Table(("benchmark", *names, "bits per byte of the right choice"), rows)


def counted_rows(facts: Facts) -> Table:
    """Return what was counted and not scored, of all evaluations; benchmarks without anything of it are left out."""
    rows = []
    for one in facts.evaluations:
        for _, result in sorted(one.results.items()):
            if result["kind"] == "domains":
                if result["failed"]:
                    rows.append((one.label, str(result["name"]), "", "", f"{result['failed']:,} documents"))
                continue
            status, ties = result.get("status", {}), result["metrics"].get(result["primary"], {}).get("ties", 0)
            cut = status.get("truncated", 0) + status.get("cut", 0)
            why = ", ".join(f"{status[name]:,} {name}" for name in FAILURES if status.get(name))
            failed = f"{result['failed']:,} items" + (f" ({why})" if why else "") if result["failed"] else ""
            if ties or cut or failed:
                rows.append((one.label, title(result), f"{ties:,}" if ties else "", f"{cut:,}" if cut else "", failed))
    return Table(("evaluation", "benchmark", "ties", "cut", "not scored"), rows, left=2)


def contamination_rows(facts: Facts) -> Table:
    """Return the scores of dirty and clean items, and their difference."""
    rows = []
    for label, one in facts.contaminated.scores if facts.contaminated else ():
        if not one.dirty.n:
            continue
        resolved = one.difference.low > 0 or one.difference.high < 0
        rows.append(
            (
                title(facts.result(one.benchmark)),
                label,
                f"{one.dirty.n:,}",
                f"{one.clean.n:,}",
                f"{one.unknown:,}",
                with_bar(one.dirty),
                with_bar(one.clean),
                "–" if math.isnan(one.difference.value) else f"{100 * one.difference.value:+.1f}",
                span(one.difference),
                ("dirty higher" if one.difference.value > 0 else "dirty lower") if resolved else NOT_RESOLVED,
            )
        )
    header = (
        "benchmark",
        "evaluation",
        "dirty",
        "clean",
        "too short",
        "score, dirty",
        "score, clean",
        "difference",
        "95% interval",
        "verdict",
    )
    return Table(header, rows, left=2)


def without_dirty(facts: Facts) -> list[str]:
    """Return the benchmarks of which the corpus was searched for and holds no item that was asked."""
    scores = facts.contaminated.scores if facts.contaminated else ()
    dirty = {one.benchmark for _, one in scores if one.items}
    return list(dict.fromkeys(title(facts.result(one.benchmark)) for _, one in scores if one.benchmark not in dirty))


def published_rows(facts: Facts) -> Table:
    """Return ours of the last evaluation beside published numbers, where Catwalk's format was asked; none where there are none."""
    rows = []
    for key in facts.keys("benchmark"):
        result = facts.last.results.get(key)
        if result is None or result["format"] != "catwalk" or result.get("handmade"):
            continue
        beside = [f"{m.scores[result['name']]:.1f}" if result["name"] in m.scores else "" for m in MODELS]
        if any(beside):
            items = f"{result['items']:,} of {result['population']:,}"
            rows.append((title(result), items, with_bar(stored(result, result["primary"])), *beside))
    if rows and (mean := average(facts.last)) is not None:
        rows.append(("core average (9)", "", with_bar(mean), *(f"{m.average:.1f}" for m in MODELS)))
    return Table(("benchmark", "items", facts.last.label, *(f"{m.model}, published" for m in MODELS)), rows)
