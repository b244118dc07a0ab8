"""How far our sentences agree with BlingFire and untrained Punkt, which the Dolma toolkit uses.

    python -m venv /tmp/oracle && /tmp/oracle/bin/pip install blingfire==0.1.8 nltk==3.10.4
    .venv/bin/python tests/oracles/sentence_agreement.py /tmp/oracle/bin/python ../shared/data

Both libraries ignore line ends, so the lines of each paragraph are joined first. Prints, for each kind of text, the F1
of the boundaries inside paragraphs.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from olmo_core.curation.sentences import split_sentences

ORACLE = """
import json, sys, blingfire
from nltk.tokenize.punkt import PunktSentenceTokenizer
punkt = PunktSentenceTokenizer()
ends = [[[e for _, e in blingfire.text_to_sentences_and_offsets(p)[1]], [e for _, e in punkt.span_tokenize(p)]]
        for p in json.load(sys.stdin)]
json.dump(ends, sys.stdout)
"""


def paragraphs(shared: Path) -> dict[str, list[str]]:
    """Paragraphs of at least 80 characters, lines joined, by kind of text."""

    def joined(text: str, separator: str) -> list[str]:
        return [" ".join(p.split()) for p in re.split(separator, text) if len(p) >= 80]

    books = [(shared / "books" / f"{n}.txt").read_text(encoding="utf-8") for n in (972, 15122)]
    web = [
        json.loads(line)["text"]
        for path in sorted((shared / "web").glob("*.jsonl.gz"))
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    readmes = [str(d.metadata.get_payload()) for d in distributions()]  # type: ignore[attr-defined]
    return {
        "novels": [p for text in books for p in joined(text, r"\n\s*\n")],
        "web": [p for text in web for p in joined(text, r"\n")],
        "readmes": [p for text in readmes for p in joined(text, r"\n\s*\n") if not p.startswith(("|", "```"))],
    }


def our_ends(texts: list[str]) -> list[list[int]]:
    """Ends of our sentences in characters."""
    found = split_sentences(pa.array(texts, pa.large_string()))
    out = []
    for text, start, (first, last) in zip(texts, found.offsets, pairwise(found.rows), strict=False):
        raw = text.encode()
        out.append([len(raw[: end - start].decode()) for end in found.ends[first:last]])
    return out


def f1(texts: list[str], ours: list[list[int]], theirs: list[list[int]]) -> float:
    """F1 of the ends inside paragraphs."""
    pairs = [(set(a) - {len(t)}, set(b) - {len(t)}) for t, a, b in zip(texts, ours, theirs, strict=True)]
    return 2 * sum(len(a & b) for a, b in pairs) / sum(len(a) + len(b) for a, b in pairs)


def main(python: str, shared: Path) -> None:
    """Print one line for each kind of text."""
    for kind, texts in paragraphs(shared).items():
        done = subprocess.run(
            [python, "-c", ORACLE], input=json.dumps(texts), capture_output=True, text=True, check=True
        )
        blingfire, punkt = (list(column) for column in zip(*json.loads(done.stdout), strict=True))
        ours = our_ends(texts)
        print(
            f"{kind}: {len(texts)} paragraphs, F1 ours-BlingFire {f1(texts, ours, blingfire):.3f}, "
            f"ours-Punkt {f1(texts, ours, punkt):.3f}, Punkt-BlingFire {f1(texts, punkt, blingfire):.3f}"
        )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
