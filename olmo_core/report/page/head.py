"""The head of the page: what corpus this is, and how much there is of it."""

from __future__ import annotations

from olmo_core.report.page.elements import count, name, share, size, text
from olmo_core.report.page.facts import Facts


def body(facts: Facts) -> str:
    """Return the title, the main numbers, and how content was judged."""
    packed = next(line for line in facts.lines if (line.stage, line.source) == ("packing", "all"))
    came = [line for line in facts.lines if line.stage == "documents" and line.what == "in"]
    records, read = sum(line.documents for line in came), sum(line.bytes for line in came)
    tiles = [
        (count(packed.tokens), "tokens"),
        (count(packed.documents), "documents"),
        (size(packed.bytes), "text in the corpus"),
        (str(len(facts.sources)), "source" if len(facts.sources) == 1 else "sources"),
        (share(packed.bytes, read), f"of {size(read)} of text read"),
        (share(packed.documents, records), f"of {count(records)} records"),
    ]
    boxes = "".join(f'<div class="tile"><b>{text(number)}</b><span>{text(what)}</span></div>' for number, what in tiles)
    tokens, corpus = facts.manifests["packing/all"].ref, facts.manifests["mixing/all"].ref
    return (
        f"<small>Corpus report</small><h1>{name(facts.name)}</h1>\n"
        f'<p class="dim">Tokens <code>{text(tokens)}</code>, text <code>{text(corpus)}</code>. '
        f'Recipe and all artifacts: <a href="#stages">stages and recipe</a>.</p>\n'
        f'<div class="tiles">{boxes}</div>\n{_content(facts)}'
    )


def _content(facts: Facts) -> str:
    content = facts.recipe["content"]
    if content["kind"] == "lexicon":
        return (
            f'<p class="note">Content was judged by a <b>word list</b> (<code>{text(content["lexicon"])}</code>), '
            "not by a model.</p>\n"
        )
    judges = "; ".join(
        f"<b>{text(c['name'])}</b> <code>{text(c['model'])}</code>, label {text(c['label'])}"
        for c in content["classifiers"]
    )
    return f"<p>Content was judged by classifiers over sentences: {judges}.</p>\n"
