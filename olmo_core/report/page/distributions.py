"""The distribution behind every threshold, with the threshold drawn in and the share on its wrong side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from olmo_core.curation.histograms import breaks, dense, threshold_rule
from olmo_core.curation.rules import Rule
from olmo_core.report.page import plots
from olmo_core.report.page.elements import fold, name, share, size, table, text, value
from olmo_core.report.page.facts import Facts

MOST_PLOTS = 200
"""Histograms of one page, 2 to 6 kB each; further sources have their numbers in tables."""
_ALWAYS = ("text_bytes", "target_score")
_MEANINGS = {
    "text_bytes": "length of the text, bytes of UTF-8",
    "target_score": "probability of the wanted language",
    "language_score": "probability of the most probable language",
    "pii_count": "e-mail addresses, phone numbers, IP addresses",
}


def body(facts: Facts) -> str:
    """Return the section."""
    parts = [
        "<p>Every value that a rule looks at, over all documents of a source. Bars are on a <b>logarithmic scale</b>, so that "
        "single documents can be seen beside thousands; bins are the same for every corpus, and no bin lies on both sides of a "
        "threshold. A document may fail several rules: it counts as dropped by the first of them.</p>\n"
        '<p class="key"><span><i class="box" style="background:var(--kept)"></i>passes</span>'
        '<span><i class="box" style="background:var(--lost)"></i>fails this rule</span>'
        '<span><i class="box" style="background:var(--soft)"></i>text lengths: read, but not kept</span></p>\n'
    ]
    if idle := facts.report["rules_without_effect"]:
        shown = ", ".join(f"<code>{text(one)}</code>" for one in idle)
        parts.append(f'<p class="note">Rules that no document failed; right thresholds? {shown}</p>\n')
    drawn = 0
    for source in facts.sources:
        manifest = facts.manifests[f"selection/{source}"]
        columns: Mapping[str, Any] = manifest.counts.get("distributions", {})
        rules = [Rule(**rule) for rule in manifest.recipe["rules"]]
        order = [*_ALWAYS, *dict.fromkeys(r.column for r in rules if r.column not in _ALWAYS)]
        order = [one for one in order if one in columns]
        documents = manifest.ledger.read.documents
        parts.append(f"<h3>{name(source)} <small>{documents:,} documents, {len(rules)} rules</small></h3>\n")
        if drawn + len(order) <= MOST_PLOTS:
            drawn += len(order)
            figures = "".join(_figure(facts, source, one, columns[one], rules) for one in order)
            parts.append(f'<div class="plots">\n{figures}</div>\n')
        if rules:
            parts.append(
                fold("Rules in numbers", _numbers(facts, source, rules), opened=drawn + len(order) > MOST_PLOTS)
            )
    parts += [
        "<h3>Near duplicates, all sources</h3>\n",
        _similarities(facts),
        "<h3>Tokens per byte</h3>\n",
        _tokens(facts),
    ]
    return "".join(parts)


def _figure(facts: Facts, source: str, column: str, counted: Mapping[str, Any], rules: Sequence[Rule]) -> str:
    manifest = facts.manifests[f"selection/{source}"]
    own = [rule for rule in rules if rule.column == column]
    places = breaks(counted["scale"], own)
    counts = dense(counted["bins"], places)
    inner = dense(counted["kept"], places) if "kept" in counted else None
    picture = plots.histogram(counted["scale"], counts, own, inner, title=f"Histogram of {column} in {source}")
    measured = int(counts.sum())
    lines = []
    for rule in own:
        failed = int(manifest.counts.get("failed_alone", {}).get(rule.name, 0))
        first = manifest.ledger.dropped[rule.name].documents if rule.name in manifest.ledger.dropped else 0
        kind = "f" if failed else "z"
        lines.append(
            f'<li>{text(rule.name.replace("_", " "))}: drops {text(_condition(rule))}: <span class="{kind}">{failed:,} fail ({share(failed, measured)})</span>'
            f"{f', {first:,} dropped for it' if failed else ''}</li>"
        )
    listed = f"<ul>{''.join(lines)}</ul>" if lines else ""
    missing = int(counted["without_value"])
    note = f"<small>{missing:,} without a value: below the language floor</small>" if missing else ""
    meaning = facts.meanings.get(column) or _MEANINGS.get(column, "")
    says = f"<br><small>{text(meaning)}</small>" if meaning else ""
    return f"<figure>\n<figcaption><b>{_breakable(column)}</b>{says}{listed}</figcaption>\n{picture}{note}</figure>\n"


def _breakable(column: str) -> str:
    """Return a column's name with places where a line may end."""
    return text(column).replace("_", "_<wbr>")


def _condition(rule: Rule) -> str:
    return f"{rule.drop_if} {value(rule.value)}"


def _numbers(facts: Facts, source: str, rules: Sequence[Rule]) -> str:
    manifest = facts.manifests[f"selection/{source}"]
    came = manifest.ledger.read.documents
    rows = []
    for rule in rules:
        failed = int(manifest.counts.get("failed_alone", {}).get(rule.name, 0))
        dropped = manifest.ledger.dropped.get(rule.name)
        rows.append(
            (
                text(rule.name),
                f"<code>{text(rule.column)}</code> {text(_condition(rule))}",
                f"{failed:,}",
                share(failed, came),
                f"{dropped.documents:,}" if dropped else "0",
                size(dropped.bytes) if dropped else "",
            )
        )
    return table(("rule", "drops", "fail it", "of all", "dropped for it", "text"), rows, left=2)


def _similarities(facts: Facts) -> str:
    manifest = facts.manifests["near-duplicates/all"]
    counts = manifest.counts
    if "similarities" not in counts:
        return "<p>Not counted.</p>\n"
    rule = threshold_rule(float(manifest.recipe["near_duplicates"]["threshold"]))
    found = dense(counts["similarities"], breaks("fraction", [rule]))
    rejected = int(counts["rejected"])
    picture = plots.histogram(
        "fraction",
        found,
        [rule],
        title="Histogram of the similarity of near duplicates",
        open_below=f"{rejected:,} pairs rejected",
    )
    exact = manifest.ledger.dropped.get("exact_duplicate")
    copies = int(found.sum()) - int(counts["matched"])
    facts_line = (
        f"{int(counts['pairs']):,} candidate pairs were compared exactly; {int(counts['matched']):,} reach {rule.value:g}, "
        f"{rejected:,} do not (their comparison stops as soon as that is certain, so they have no value). "
        + (f"{copies:,} more are exact copies of a near duplicate and go with it. " if copies else "")
        + f"{exact.documents if exact else 0:,} exact copies were found before, by hash."
    )
    crowded = int(counts.get("rows_in_oversized_buckets", 0))
    more = (
        f" {crowded:,} documents were in crowded buckets and compared with the best of those only." if crowded else ""
    )
    return (
        '<div class="plots"><figure>\n<figcaption><b>jaccard</b><br><small>similarity of the word n-grams of a dropped document to '
        f'those of the one it repeats</small><ul><li><span class="f">{int(found.sum()):,} dropped</span></li></ul></figcaption>\n'
        f"{picture}</figure></div>\n<p>{text(facts_line + more)}</p>\n"
    )


def _tokens(facts: Facts) -> str:
    realised = facts.report["tokens_by_source"]
    written = facts.manifests["mixing/all"].counts.get("text_bytes", {})
    rows = []
    for source in facts.sources:
        planned = facts.report["mixture"][source]
        estimate = planned["estimated_tokens"] / planned["bytes"] if planned["bytes"] else None
        exact = realised.get(source, 0) / written[source] if written.get(source) else None
        rows.append(
            (
                name(source),
                f"{estimate:.4f}" if estimate else "–",
                f"{int(planned['sampled_documents']):,}",
                f"{exact:.4f}" if exact else "–",
                f"{1 / exact:.2f}" if exact else "–",
            )
        )
    return table(("source", "estimated", "from documents", "counted", "bytes per token"), rows)
