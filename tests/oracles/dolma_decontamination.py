"""Write what the dolma toolkit makes of Paloma's decontamination: word counts, punctuation, and the documents it removes.

    python tests/oracles/dolma_decontamination.py [--env DIR] --out tests/golden/dolma_decontamination.json.gz

The toolkit (dolma 1.2.1, an environment of its own, see `dolma_golden.py`) goes through the steps of its runbook
(`configs/dolma-v1_5/decontamination/README.md`): tag the evaluation documents, cut paragraphs of fewer than 13 words or
of punctuation only, fill a Bloom filter, run it read-only over the training documents, and drop those with a hit. Two
things are not as its configurations have them: the score is compared with `> 0.5`, as `>= 1.0` is false for the integer
1 in this version and drops nothing, and `min_words` is not set, as it turns the filter off.

The documents are made here, from a seed, so that the golden file needs no text of others; ids that were removed go into
it, and the counts of random strings over all of Unicode 14, except for two characters whose class Unicode 17 changed.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SEED = 13
CHANGED_SINCE = "\u00b8\u066b"
"""Word_Break differs between Unicode 16 (the toolkit's uniseg 0.10.1) and 17 (our tables)."""
_SYLLABLES = ["ka", "lo", "mi", "ren", "tus", "vor", "pel", "sha", "dun", "ix", "ober", "quin", "zat", "el"]
_MARKS = [
    ".",
    ",",
    ";",
    " -",
    "!",
    "?",
    ":",
    " (so)",
    "'s",
    '"',
    "…",
    " 3.5",
    " 12,000",
    "’t",
    " e-mail",
    " 日本",
    " ñandú",
]

Record = dict[str, Any]


def strings(count: int = 3000) -> list[str]:
    """Return random strings that mix characters of many kinds; every category, weighted alike, and a lot of joiners."""
    rng = random.Random(SEED)
    by_kind: dict[str, list[str]] = {}
    for point in range(0x110000):
        kind = unicodedata.category(chr(point))
        if kind not in ("Cs", "Cn") and chr(point) not in CHANGED_SINCE and chr(point) != "\n":
            by_kind.setdefault(kind, []).append(chr(point))
    special = list(" aA9_'\".,:;-\u200d\u0301\u00ad\u05d0\u30a2\u2019\u00b7\U0001f1e6\U0001f469\r\x85\u3000\u202f*")
    kinds = sorted(by_kind)
    found = []
    for _ in range(count):
        size = rng.randint(1, 24)
        found.append(
            "".join(
                rng.choice(special) if rng.random() < 0.6 else rng.choice(by_kind[rng.choice(kinds)])
                for _ in range(size)
            )
        )
    return [*found, "*** --- ***!", "☆ ☆ ☆", "🙂🙂 !!", "a ☆", "12", "§ 5", "+ = <>", "。、", "\t \u2003 —"]


def _sentence(rng: random.Random, words: int) -> str:
    made = []
    for _ in range(words):
        word = "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(1, 3)))
        made.append(word + (rng.choice(_MARKS) if rng.random() < 0.2 else ""))
    return " ".join(made)


def _page(rng: random.Random, paragraphs: list[str]) -> str:
    return "\n".join(paragraphs) + ("\n" if rng.random() < 0.5 else "")


def corpus() -> tuple[list[Record], list[Record]]:
    """Return evaluation documents and training documents, some of which hold paragraphs of the former, whole or changed."""
    rng = random.Random(SEED)
    evaluation: list[Record] = []
    for n in range(40):
        paragraphs = [_sentence(rng, rng.choice([2, 8, 9, 10, 11, 12, 13, 14, 40])) for _ in range(6)]
        paragraphs += ["", "* * * * * * * * * * * * * * *", "  " + _sentence(rng, 20) + "  "]
        evaluation.append({"id": f"e{n}", "text": _page(rng, paragraphs), "source": "eval"})
    training: list[Record] = []
    for n in range(300):
        paragraphs = [_sentence(rng, rng.randint(3, 40)) for _ in range(rng.randint(1, 6))]
        if n % 3 == 0:
            taken = rng.choice(rng.choice(evaluation)["text"].split("\n"))
            change = [
                lambda p: p,
                lambda p: p,
                lambda p: p.upper(),
                lambda p: p + " ",
                lambda p: p.strip(),
                lambda p: p.replace(" ", "  ", 1),
                lambda p: p + "\r",
            ]
            paragraphs.insert(rng.randint(0, len(paragraphs)), rng.choice(change)(taken))
        training.append({"id": f"t{n}", "text": _page(rng, paragraphs), "source": "train"})
    return evaluation, training


def _write(path: Path, records: list[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps({"added": "", "created": "", "metadata": {}, **r}) + "\n" for r in records)
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def _read(folder: Path) -> list[Record]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [json.loads(line) for path in files for line in gzip.decompress(path.read_bytes()).splitlines()]


def removed_by_toolkit(environment: Path, evaluation: list[Record], training: list[Record]) -> list[str]:
    """Return the ids of the training documents that the toolkit's runbook drops."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "eval" / "documents" / "0.json.gz", evaluation)
        _write(folder / "train" / "documents" / "0.json.gz", training)
        taggers = ["uniseg_length_paragraphs_with_empty_v1", "not_alphanum_paragraph_v1"]
        documents = f"{folder}/eval/documents/*.gz"
        _run(environment, folder, "tag", {"documents": [documents], "taggers": taggers, "processes": 1})
        cut = [
            (f"{taggers[0]}__{taggers[0]}__negative_paragraph", -12),
            (f"{taggers[1]}__{taggers[1]}__all_punct", 0.5),
        ]
        replacement = [{"span": f"$.attributes.{a}", "min_score": s, "replacement": ""} for a, s in cut]
        stream = {
            "name": "suite",
            "documents": [documents],
            "attributes": taggers,
            "span_replacement": replacement,
            "output": {"path": f"{folder}/suite/documents", "max_size_in_bytes": 500000000},
        }
        _run(environment, folder, "mix", {"streams": [stream], "processes": 1})
        bloom = {"file": f"{folder}/bloom.bin", "estimated_doc_count": 100000, "desired_false_positive_rate": 1e-15}
        dedupe = {"name": "decon", "paragraphs": {"attribute_name": "hits"}, "skip_empty": True}
        for source, read_only in (("suite", False), ("train", True)):
            config = {
                "documents": [f"{folder}/{source}/documents/*.gz"],
                "dedupe": dedupe,
                "bloom_filter": {**bloom, "read_only": read_only},
                "processes": 1,
            }
            _run(environment, folder, "dedupe", config)
        exclude = "$@.attributes[?(@.hits && @.hits[0] && @.hits[0][2] > 0.5)]"
        stream = {
            "name": "clean",
            "documents": [f"{folder}/train/documents/*.gz"],
            "attributes": ["decon"],
            "filter": {"exclude": [exclude]},
            "output": {"path": f"{folder}/clean/documents", "max_size_in_bytes": 500000000},
        }
        _run(environment, folder, "mix", {"streams": [stream], "processes": 1})
        kept = {record["id"] for record in _read(folder / "clean" / "documents")}
    return [record["id"] for record in training if record["id"] not in kept]


def _run(environment: Path, folder: Path, command: str, config: Record) -> None:
    path = folder / f"{command}.json"
    path.write_text(json.dumps(config))
    words = [str(environment / "bin" / "dolma"), "-c", str(path), command]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")


def counted_by_toolkit(environment: Path, texts: list[str]) -> list[list[int]]:
    """Return for each text the toolkit's number of words, and 1 where it is all punctuation."""
    command = [str(environment / "bin" / "python"), str(HERE / "dolma_taggers.py")]
    command.append("uniseg_length_paragraphs_with_empty_v1,not_alphanum_paragraph_v1")
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    found = []
    for line in done.stdout.splitlines():
        length, punctuation = json.loads(line).values()
        words = [span[3] for span in length if span[2] == "paragraph"]
        found.append([words[0] if words else 0, int(max(span[3] for span in punctuation))])
    return found


def main() -> None:
    """Write the golden file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=Path, required=True, help="the toolkit's environment")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if sys.version_info[:2] != (3, 11):
        raise SystemExit("run it with Python 3.11: the strings are drawn from its Unicode 14")
    evaluation, training = corpus()
    texts = strings()
    values = {
        "toolkit": "dolma 1.2.1",
        "texts": texts,
        "counts": counted_by_toolkit(arguments.env, texts),
        "removed": removed_by_toolkit(arguments.env, evaluation, training),
    }
    plain = json.dumps(values, separators=(",", ":")).encode()
    arguments.out.write_bytes(gzip.compress(plain, compresslevel=9, mtime=0))


if __name__ == "__main__":
    main()
