"""The page about a corpus: what came in, what each stage took away and why, examples and mixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.report import decontamination, markdown, takedown
from olmo_core.report.examples import Example
from olmo_core.report.waterfall import WaterfallLine


def page(
    recipe: Any, report: Mapping[str, Any], lines: Sequence[WaterfallLine], shown: Mapping[str, Sequence[Example]]
) -> str:
    """Return the report as Markdown. `recipe` is the CorpusRecipe, `report` what report.json holds."""
    packed = next(line for line in lines if (line.stage, line.source) == ("packing", "all"))
    first = [line for line in lines if line.stage == "documents" and line.what == "in"]
    came = sum(line.documents for line in first)
    text = sum(line.bytes for line in first)
    parts = [
        f"# Corpus {recipe.name}\n",
        f"**{markdown.count(packed.tokens)} tokens** in {markdown.count(packed.documents)} documents, "
        f"from {markdown.count(came)} records with {markdown.size(text)} of text.\n",
        _content_note(report["content"]),
        "## Waterfall\n",
        markdown.waterfall_table(lines),
        "Bytes are those of the original text until mixing cuts and masks. Tokens are estimated from bytes, except in the last line.\n",
    ]
    if report["rules_without_effect"]:
        parts.append(
            f"Rules that no document failed (right thresholds?): {', '.join(report['rules_without_effect'])}\n"
        )
    if "decontamination" in report:
        parts += decontamination.section(report["decontamination"], shown["contaminated"])
    parts += ["## Mixture\n", _mixture(report)]
    if "held_out" in report:
        parts += ["## Held out\n", _held_out(report)]
    if "takedown" in report:
        parts += ["## Takedown\n", takedown.section(report["takedown"])]
    if report["masked"]:
        masked = ", ".join(f"{n:,} {kind}" for kind, n in sorted(report["masked"].items()))
        parts.append(f"Personal data masked in the documents that stayed: {masked}.\n")
    parts.append("## Examples\n")
    for title, kind in (("Dropped by rules", "dropped"), ("Dropped as duplicates", "duplicates"), ("Kept", "kept")):
        parts.append(f"### {title}\n")
        parts += [markdown.example(f"{e.reason}: {e.source}/{e.id}", e.text, e.facts) for e in shown[kind]] or [
            "None.\n"
        ]
    parts += ["## Stages\n", _stages(report)]
    return "\n".join(parts)


def _content_note(content: Mapping[str, Any]) -> str:
    if content.get("kind") == "lexicon":
        return "Content was judged by a **word list** (`content: lexicon`), not by a model.\n"
    names = ", ".join(f"{c['name']} ({c['model']})" for c in content.get("classifiers", []))
    return f"Content was judged by classifiers: {names}.\n"


def _mixture(report: Mapping[str, Any]) -> str:
    counted = report["tokens_by_source"]
    planned_total = sum(s["planned_tokens"] for s in report["mixture"].values()) or 1
    realised_total = sum(counted.values()) or 1
    rows = []
    for name, source in sorted(report["mixture"].items()):
        realised = int(counted.get(name, 0))
        rows.append(
            (
                name,
                int(source["documents"]),
                f"{source['rate']:.3f}",
                int(source["planned_tokens"]),
                f"{source['planned_tokens'] / planned_total:.1%}",
                realised,
                f"{realised / realised_total:.1%}",
            )
        )
    return markdown.table(("source", "survivors", "rate", "planned tokens", "share", "realised tokens", "share"), rows)


def _held_out(report: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            f"`{split['artifact']}`",
            f"{split['fraction']:.2%}",
            f"{split['share']:.2%}",
            int(split["documents"]),
            int(split["because_of_copies"]),
            int(split["tokens"]),
        )
        for name, split in report["held_out"].items()
    ]
    header = ("split", "tokens artifact", "asked for", "of the survivors", "documents", "because of a copy", "tokens")
    return markdown.table(header, rows, left=2)


def _stages(report: Mapping[str, Any]) -> str:
    rows = [(label, f"`{s['artifact']}`", s["shards"]) for label, s in report["stages"].items()]
    return markdown.table(("stage", "artifact", "shards"), rows, left=2)


def costs(manifests: Mapping[str, Manifest]) -> str:
    """Return what each stage's artifact took to make, as a table; not on the page, which is the same for every run."""
    rows = [
        (label, len(m.shards), f"{m.cpu_seconds:.1f}", markdown.size(m.peak_memory_bytes))
        for label, m in manifests.items()
    ]
    return markdown.table(("stage", "shards", "CPU seconds", "peak memory"), rows)
