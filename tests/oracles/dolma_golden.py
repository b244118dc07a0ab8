"""Write the golden values of the dolma toolkit's taggers on real documents.

    python tests/oracles/dolma_golden.py [--documents docs.jsonl] --out tests/golden/dolma_taggers.json.gz [--env DIR]

The toolkit (dolma 1.2.1 from PyPI) runs in an environment of its own, made when it is missing (it needs numpy < 2 and
Python < 3.13), in a subprocess. `--documents` holds JSON lines with `text`; without it the documents of
`environment_documents.py` are taken. The golden file holds no text: values by the sha256 of each text.

    {"toolkit": "dolma 1.2.1", "naughty_words": [...], "attributes": {tagger: [names]},
     "documents": {sha256: {"gopher_v1": [score or null for each name],
                            "c4_v2" and "pii_...": [[score, gap, length, gap, length, ...] for each name]}}}

`gopher_v1` gives one value per document and attribute. The others give spans in code points: `gap` is the distance from
the end of the span before, and the score, equal for all spans of a name, stands first; an empty list is no span.
`naughty_words` is the toolkit's list for `c4_v2` (LDNOOBW's English list, CC BY 4.0, Shutterstock and contributors).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCALARS = "gopher_v1"
TAGGERS = (SCALARS, "c4_v2", "pii_regex_with_counts_fast_v2")
DEFAULT_ENVIRONMENT = Path(tempfile.gettempdir()) / "oracle-dolma"

Span = tuple[int, int, str, float]


def toolkit_python(environment: Path) -> Path:
    """Return the interpreter of the toolkit's environment, making the environment when it is missing (a minute)."""
    python = environment / "bin" / "python"
    if not (environment / "READY").exists():
        suitable = sys.executable if sys.version_info < (3, 13) else shutil.which("python3.12") or "python3.11"
        subprocess.run([suitable, "-m", "venv", str(environment)], check=True)
        install = [str(python), "-m", "pip", "install", "-q", "-r", str(HERE / "dolma-requirements.txt")]
        subprocess.run(install, check=True)
        (environment / "READY").touch()
    return python


def toolkit_spans(python: Path, texts: Iterable[str]) -> Iterator[dict[str, list[Span]]]:
    """Yield, for each text, the spans of each tagger. The toolkit's complaints about nltk downloads are dropped."""
    with tempfile.TemporaryFile("w+") as lines, tempfile.TemporaryFile("w+") as complaints:
        lines.writelines(json.dumps(text) + "\n" for text in texts)
        lines.seek(0)
        command = [str(python), str(HERE / "dolma_taggers.py"), ",".join(TAGGERS)]
        with subprocess.Popen(command, stdin=lines, stdout=subprocess.PIPE, stderr=complaints, text=True) as toolkit:
            assert toolkit.stdout is not None
            for line in toolkit.stdout:
                yield json.loads(line)
        if toolkit.returncode:
            complaints.seek(0)
            raise RuntimeError(f"{command} ended with {toolkit.returncode}:\n{complaints.read()[-2000:]}")


def naughty_words(python: Path) -> list[str]:
    """Return the words and phrases that `c4_v2` looks for."""
    program = "import json; from dolma.taggers.c4 import NAUGHTY_LINES; print(json.dumps(NAUGHTY_LINES))"
    answer = subprocess.run([str(python), "-c", program], check=True, capture_output=True, text=True)
    words: list[str] = json.loads(answer.stdout.splitlines()[-1])
    return words


def packed_spans(spans: list[Span]) -> list[float]:
    """Return spans of one name as `[score, gap, length, ...]` with whole numbers as int."""
    if not spans:
        return []
    scores = {span[3] for span in spans}
    if len(scores) > 1:
        raise ValueError(f"spans of one name differ in score: {sorted(scores)[:5]}")
    packed = [whole(scores.pop())]
    before = 0
    for start, end, _, _ in spans:
        packed += [start - before, end - start]
        before = end
    return packed


def whole(value: float) -> float:
    """Return an int for a whole number, which JSON writes shorter."""
    return int(value) if value == int(value) else value


def unpacked_spans(packed: list[float]) -> list[tuple[int, int]]:
    """Return `(start, end)` in code points: the inverse of `packed_spans` without the score."""
    spans = []
    before = 0
    for gap, length in zip(packed[1::2], packed[2::2], strict=True):
        start = before + int(gap)
        before = start + int(length)
        spans.append((start, before))
    return spans


def golden(texts: list[str], python: Path) -> dict[str, Any]:
    """Return the content of the golden file."""
    results = list(toolkit_spans(python, texts))
    if len(results) != len(texts):
        raise RuntimeError(f"the toolkit answered {len(results)} of {len(texts)} documents")
    names = {t: list(dict.fromkeys(span[2] for result in results for span in result[t])) for t in TAGGERS}
    documents = {}
    for text, result in zip(texts, results, strict=True):
        values: dict[str, list[Any]] = {}
        for tagger in TAGGERS:
            by_name: dict[str, list[Span]] = {name: [] for name in names[tagger]}
            for span in result[tagger]:
                by_name[span[2]].append(span)
            if tagger == SCALARS:
                values[tagger] = [whole(s[0][3]) if s else None for s in by_name.values()]
            else:
                values[tagger] = [packed_spans(spans) for spans in by_name.values()]
        documents[hashlib.sha256(text.encode()).hexdigest()] = values
    return {
        "toolkit": "dolma 1.2.1",
        "naughty_words": naughty_words(python),
        "attributes": names,
        "documents": dict(sorted(documents.items())),
    }


def write(values: dict[str, Any], out: Path) -> None:
    """Write gzip without a time, so that the same values give the same bytes."""
    plain = json.dumps(values, separators=(",", ":"), allow_nan=False).encode()
    out.write_bytes(gzip.compress(plain, compresslevel=9, mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=Path, help="JSON lines with `text`; default: the environment's documents")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--env", type=Path, default=DEFAULT_ENVIRONMENT, help="folder of the toolkit's environment")
    arguments = parser.parse_args()
    if arguments.documents:
        with arguments.documents.open(encoding="utf-8") as lines:
            texts = [json.loads(line)["text"] for line in lines]
    else:
        sys.path.insert(0, str(HERE.parents[1]))
        from tests.oracles.environment_documents import environment_documents

        texts = [document.text for document in environment_documents()]
    write(golden(texts, toolkit_python(arguments.env)), arguments.out)


if __name__ == "__main__":
    main()
