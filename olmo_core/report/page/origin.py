"""Where all of it comes from: the artifact of every stage, and the recipe."""

from __future__ import annotations

import json

from olmo_core.report.page.elements import fold, table, text
from olmo_core.report.page.facts import Facts


def body(facts: Facts) -> str:
    """Return the section."""
    rows = [
        (text(label), f"<code>{text(stage['artifact'])}</code>", f"{stage['shards']:,}")
        for label, stage in facts.report["stages"].items()
    ]
    recipe = json.dumps(facts.recipe, indent=2, ensure_ascii=False)
    return (
        "<p><code>olmo artifacts show ADDRESS</code> tells more of an artifact, <code>olmo explain ID</code> of a document.</p>\n"
        + table(("stage", "artifact", "shards"), rows, left=2)
        + fold(
            "The recipe, with all defaults written out (<code>recipe.json</code> beside this page)",
            f"<pre>{text(recipe)}</pre>\n",
        )
    )
