"""The sections of the page, each a function of the facts that returns safe HTML, or nothing where there is nothing to show."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from olmo_core.evaluation.compare import EARLY, Curve
from olmo_core.report.evaluation import curves, rows
from olmo_core.report.evaluation.facts import COMPARED, Facts
from olmo_core.report.evaluation.published import MODELS, NOTE, SOURCE
from olmo_core.report.page.elements import count, fold, name, table, text

_VERDICTS = {
    "better": "better",
    "worse": "worse",
    "dirty higher": "worse",
    "dirty lower": "open",
    rows.NOT_RESOLVED: "open",
}


def html(found: rows.Table, *, verdict: bool = False) -> str:
    """Return a table of text as HTML; with `verdict` its last column is coloured."""
    body = [[text(cell) for cell in row] for row in found.rows]
    made = table([text(one) for one in found.header], body, left=found.left)
    if verdict:
        for word, kind in _VERDICTS.items():
            made = made.replace(f"<td class=n>{word}</td>", f'<td class="n {kind}">{word}</td>')
    return made


def head(facts: Facts) -> str:
    """Return the title and the main numbers."""
    last = facts.last
    resolved = sum(one.verdict != rows.NOT_RESOLVED for one in facts.changes)
    tiles = [(str(len(facts.evaluations)), "evaluation" if len(facts.evaluations) == 1 else "evaluations")]
    if benchmarks := facts.keys("benchmark"):
        tiles.append((str(len(benchmarks)), "benchmark" if len(benchmarks) == 1 else "benchmarks"))
    if (mean := rows.average(last)) is not None:
        tiles.append((rows.with_bar(mean), f"core average, {last.label}"))
    bits = [
        r["bits_per_byte"] for r in last.results.values() if r["kind"] == "domains" and r["bits_per_byte"] is not None
    ]
    if bits:
        tiles.append((f"{sum(bits) / len(bits):.3f}", f"bits per byte, {last.label}"))
    if facts.changes:
        tiles.append((f"{resolved} of {len(facts.changes)}", "changes resolved"))
    if last.tokens is not None:
        tiles.append((count(last.tokens), "tokens seen"))
    boxes = "".join(f'<div class="tile"><b>{text(number)}</b><span>{text(what)}</span></div>' for number, what in tiles)
    stand_in = any(r.get("handmade") for one in facts.evaluations for r in one.results.values())
    failed = sum(int(r["failed"]) for one in facts.evaluations for r in one.results.values())
    notes = []
    if stand_in:
        notes.append("A benchmark here is a hand-made stand-in: its number is <b>no score</b>.")
    if failed:
        notes.append(
            f'<b>{failed:,} items or documents could not be scored</b>; they are in no number: <a href="#counted">counted</a>.'
        )
    said = "".join(f'<p class="note">{one}</p>\n' for one in notes)
    return (
        f"<small>Evaluation report</small><h1>{name(facts.name)}</h1>\n"
        f'<p class="dim">{" · ".join(text(one.label) for one in facts.evaluations[:12])}{" …" if len(facts.evaluations) > 12 else ""}. '
        f'Intervals are 95%. What was asked of which weights: <a href="#origin">origin</a>.</p>\n'
        f'<div class="tiles">{boxes}</div>\n{said}'
    )


def scores(facts: Facts) -> str:
    """Return the table like the paper's, and the last evaluation's scores as a picture."""
    keys = facts.keys("benchmark")
    if not keys:
        return ""
    drawn = []
    for key in keys:
        result = facts.last.results.get(key)
        if result is not None:
            published = [
                (m.model, m.scores[result["name"]])
                for m in MODELS
                if result["name"] in m.scores and result["format"] == "catwalk" and not result.get("handmade")
            ]
            drawn.append((rows.title(result), rows.stored(result, result["primary"]), result.get("chance"), published))
    theirs = "".join(
        f'<span><i class="mark t{i}"></i>{text(m.model)}, published</span>'
        for i, m in enumerate(MODELS)
        if any(m.model == model for _, _, _, beside in drawn for model, _ in beside)
    )
    key = (
        f'<p class="key"><span><i class="mark"></i>{text(facts.last.label)} with its 95% interval</span>'
        f"<span>┆ guessing</span>{theirs}</p>\n"
    )
    beside = html(rows.score_rows(facts)) if len(facts.evaluations) > 1 else ""
    return (
        "<p>Percent, by each benchmark's primary metric. ± is half of the 95% interval: Wilson's for shares, the bootstrap over items, or over "
        "clusters (MMLU: subjects), otherwise.</p>\n"
        + beside
        + (f"<h3>{text(facts.last.label)}</h3>\n" if beside else "")
        + html(rows.benchmark_rows(facts.last))
        + f"<figure>{curves.forest(drawn, 'scores with intervals')}</figure>\n{key}"
    )


def curve_plots(facts: Facts) -> str:
    """Return the curves of primary metrics, and folded the numbers that move earlier."""
    if not facts.curves:
        return ""
    primary = [
        one for one in facts.curves if one.metric not in EARLY or facts.result(one.benchmark)["kind"] == "domains"
    ]
    early = [one for one in facts.curves if one not in primary]
    unit = curves.axis(facts.curves[0])[1]
    short = len(facts.evaluations) < 4
    band = (
        "A noise band needs four checkpoints. "
        if short
        else (
            "Shaded: two standard deviations of the last checkpoints about their straight line, which is what training wobbles, and more "
            "where the curve still bends. "
        )
    )
    made = f"<p>Over {text(unit)}. Bars are 95% intervals over items. {band}Dashed: guessing.</p>\n{_plots(facts, primary)}"
    if early:
        made += fold(
            "Numbers that move before accuracies do: bits per byte and probability of the right choice, its margin",
            _plots(facts, early),
        )
    return made


def _plots(facts: Facts, some: Sequence[Curve]) -> str:
    figures = []
    for one in some:
        result = facts.result(one.benchmark)
        what = "bits per byte" if one.metric == "bits_per_byte" else one.metric
        label = f"{rows.title(result)}: {what}"
        ratio = one.noise.signal_to_noise
        said = "" if math.isnan(ratio) else f" <span class=z>signal to noise {ratio:.1f}</span>"
        figures.append(
            f"<figure><figcaption><b>{text(rows.title(result))}</b> {text(what)}{said}</figcaption>{curves.draw(one, label)}</figure>"
        )
    return f'<div class="plots">{"".join(figures)}</div>\n'


def domains(facts: Facts) -> str:
    """Return bits per byte by domain."""
    found = rows.domain_rows(facts)
    if not found.rows:
        return ""
    rule = facts.recipe.get("windows", "paloma")
    return (
        "<p>Bits per byte of text, lower is better, comparable between tokenizers. ± is half of the 95% bootstrap interval over documents; "
        f"documents longer than the context are cut by the rule <code>{text(rule)}</code>.</p>\n" + html(found)
    )


def changed(facts: Facts) -> str:
    """Return what changed between neighbours."""
    if not facts.changes:
        return ""
    results = {key: facts.result(key) for one in facts.evaluations for key in one.results}
    found = rows.change_rows(facts.changes, results)
    return (
        f"<p>Each evaluation{_last(facts)} beside the one before, item by item, on the same items. The p-values are corrected for all "
        f"{len(found.rows)} comparisons of this table (Holm): together they are wrong once in 20 reports at most. <b>Not resolved</b> does not mean equal: "
        "a true change smaller than <i>detectable</i> (power 0.8, before correction) would mostly be missed. Accuracies in points, texts in bits per byte.</p>\n"
        + html(found, verdict=True)
    )


def _last(facts: Facts) -> str:
    return f" of the last {COMPARED - 1}" if len(facts.evaluations) > COMPARED else ""


def normalisations(facts: Facts) -> str:
    """Return every normalisation of the last evaluation."""
    found = rows.normalisation_rows(facts.last)
    if not found.rows:
        return ""
    return (
        f"<p>{text(facts.last.label)}, from one scoring pass. * is the primary one. Raw: sum of log-probabilities; per token, character, byte; uncond: "
        "minus the log-probability without the question.</p>\n" + html(found)
    )


def counted(facts: Facts) -> str:
    """Return what was counted and not scored."""
    found = rows.counted_rows(facts)
    if not found.rows:
        return "<p>No ties, nothing cut, nothing that could not be scored.</p>\n"
    return (
        "<p>Ties: the best choices are equally likely, and share the credit. Cut: the beginning of the question did not fit into the model's context. "
        "What could not be scored is in no number.</p>\n" + html(found)
    )


def contaminated(facts: Facts) -> str:
    """Return scores of dirty and clean items."""
    if facts.contaminated is None:
        return ""
    found = rows.contamination_rows(facts)
    artifact = f"<code>{text(facts.contaminated.artifact)}</code>"
    if not found.rows:
        return f"<p>No item that was asked is among the contaminated ones of {artifact}.</p>\n"
    return (
        f"<p>Dirty items are those that documents of the corpus hold which stayed in it, by {artifact}; those with too few words to be looked for are "
        "in neither group. Dirty minus clean, with the interval of two "
        "independent groups; these tests are not corrected for their number. Dirty items may also be easier for another reason: compare with a model "
        "that has not seen the corpus.</p>\n"
        + html(found, verdict=True)
        + (f"<p>Of {text(', '.join(clean))} nothing was found.</p>\n" if (clean := rows.without_dirty(facts)) else "")
    )


def published(facts: Facts) -> str:
    """Return ours beside published numbers."""
    found = rows.published_rows(facts)
    if not found.rows:
        return ""
    return f"<p>{text(NOTE)} From {text(SOURCE)}.</p>\n" + html(found)


def origin(facts: Facts) -> str:
    """Return which weights were asked what."""
    lines = []
    for one in facts.evaluations:
        model = one.manifest.recipe.get("model", {})
        checkpoint = one.manifest.inputs.get("checkpoint")
        lines.append(
            (
                text(one.label),
                f"<code>{text(one.manifest.ref)}</code>",
                f"<code>{text(checkpoint or '')}</code>",
                f"<code>{text(str(model.get('weights', ''))[:12])}</code>",
                f"<code>{text(str(model.get('tokenizer', ''))[:12])}</code>",
                "" if one.step is None else f"{one.step:,}",
                "" if one.tokens is None else f"{one.tokens:,}",
            )
        )
    recipe = json.dumps(facts.recipe, indent=2, ensure_ascii=False)
    return (
        "<p><code>olmo artifacts show ADDRESS</code> tells more; the scores of single items and choices lie in the evaluation artifacts.</p>\n"
        + table(("evaluation", "artifact", "checkpoint", "weights", "tokenizer", "step", "tokens"), lines, left=5)
        + fold("The recipe of the last evaluation", f"<pre>{text(recipe)}</pre>\n")
    )
