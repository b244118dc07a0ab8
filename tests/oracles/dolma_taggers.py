"""Run tagger classes of the dolma toolkit on texts. This file runs inside the toolkit's own environment.

    python dolma_taggers.py gopher_v1,c4_v2 < texts.jsonl > values.jsonl

In: one JSON string a line. Out: one JSON object a line, `{tagger: [[start, end, type, score], ...]}`, with the spans as
the tagger's `predict` returns them: offsets in code points, scores not rounded.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    output, sys.stdout = sys.stdout, sys.stderr
    import dolma.taggers  # type: ignore[import-not-found]  # noqa: F401  registers the classes
    from dolma.core.data_types import Document  # type: ignore[import-not-found]
    from dolma.core.registry import TaggerRegistry  # type: ignore[import-not-found]

    taggers = {name: TaggerRegistry.get(name)() for name in sys.argv[1].split(",")}
    for number, line in enumerate(sys.stdin):
        document = Document(source="", id=str(number), text=json.loads(line))
        values = {
            name: [[span.start, span.end, span.type, span.score] for span in tagger.predict(document).spans]
            for name, tagger in taggers.items()
        }
        output.write(json.dumps(values) + "\n")
    output.flush()


if __name__ == "__main__":
    main()
