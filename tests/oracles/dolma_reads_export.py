"""Have the dolma toolkit read, filter, mask, tokenize and merge what `olmo export dolma` wrote, and compare.

    python tests/oracles/dolma_reads_export.py EXPORT [--environment DIR] [--tokenizer FILE]

The toolkit (dolma 1.2.1) runs in its own environment, as its commands, in a copy of the configuration files and without
a change to EXPORT. Everything is compared by what lies in the export's folder; nothing of this project's store is read.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

END_OF_TEXT, PADDING = 50279, 1
Record = dict[str, Any]


class ToolkitFailed(Exception):
    """A command of the toolkit ended with another exit code than 0."""


@dataclass(frozen=True, kw_only=True)
class Toolkit:
    """The toolkit's environment, and a folder for what it leaves behind."""

    python: Path
    scratch: Path

    def run(self, *words: str, directory: Path) -> str:
        """Run a module of the toolkit; returns what it wrote. Its complaints about nltk downloads are in there too."""
        return self._execute("-m", *words, directory=directory)

    def _execute(self, *words: str, directory: Path) -> str:
        environment = {"HOME": str(self.scratch), "PATH": os.environ["PATH"], "RUST_LOG": "warn"}
        command = [str(self.python), *words]
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=600)
        if done.returncode:
            raise ToolkitFailed(f"{command} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout + done.stderr

    def mix(self, export: Path, configuration: Record) -> list[Record]:
        """Return the documents that `dolma mix` leaves of a configuration with one stream, in its order."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as out:
            (stream,) = configuration["streams"]
            stream = {**stream, "output": {**stream["output"], "path": out}}
            file = self._file("mix.json", {**configuration, "streams": [stream]})
            self.run("dolma.cli.__main__", "-c", str(file), "mix", directory=export)
            return [one for path in sorted(Path(out).iterdir()) for one in read_lines(path)]

    def tokens(self, export: Path, tokenizer: Path) -> dict[tuple[str, int], list[int]]:
        """Return what `dolma tokens` makes of the exported corpus: ids by file and line."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as out:
            configuration = {
                "documents": sorted(str(p.relative_to(export)) for p in (export / "corpus/documents").rglob("*.gz")),
                "destination": out,
                "tokenizer": {
                    "name_or_path": str(tokenizer),
                    "eos_token_id": END_OF_TEXT,
                    "pad_token_id": PADDING,
                    "encode_special_tokens": True,
                },
                "processes": 1,
                "max_size": 1 << 22,
                "dtype": "uint16",
            }
            self.run(
                "dolma.cli.__main__", "-c", str(self._file("tokens.json", configuration)), "tokens", directory=export
            )
            return token_ids(Path(out))

    def merge(self, export: Path, tokenizer: Path) -> tuple[list[int], list[list[str]]]:
        """Return ids and table of all exported tokens, merged into one file by the toolkit's own reader.

        Its functions, not its command: `reshard` forgets the tokenizer of its configuration and asks Hugging Face.
        """
        with tempfile.TemporaryDirectory(dir=self.scratch) as out:
            program = (
                "import sys; from dolma.tokenizer.reshard import ReshardingPrefixConfig, merge_all_npys; "
                "paths = ReshardingPrefixConfig(prefix=sys.argv[1], sample_rate=1.0).take(); "
                "merge_all_npys(sorted(paths, key=lambda p: p.npy_path), sys.argv[2], max_num_files=1, "
                "tokenizer_name_or_path=sys.argv[3], max_workers=1)"
            )
            self._execute("-c", program, str(export / "tokens"), out, str(tokenizer), directory=export)
            (merged,) = Path(out).glob("*.npy")
            return np.fromfile(merged, np.uint16).tolist(), read_table(merged.with_suffix(".csv.gz"))

    def _file(self, name: str, configuration: Record) -> Path:
        path = self.scratch / name
        path.write_text(json.dumps(configuration))
        return path


def read_lines(path: Path) -> Iterator[Record]:
    """Yield the objects of a gzip file of JSON lines."""
    yield from (json.loads(line) for line in gzip.decompress(path.read_bytes()).split(b"\n") if line)


def read_table(path: Path) -> list[list[str]]:
    """Return the rows of a tokens table."""
    return list(csv.reader(io.StringIO(gzip.decompress(path.read_bytes()).decode(), newline="")))


def token_ids(folder: Path) -> dict[tuple[str, int], list[int]]:
    """Return the ids of every document below a folder of memory maps and tables, by file and line."""
    found: dict[tuple[str, int], list[int]] = {}
    for path in sorted(folder.glob("*.npy")):
        ids = np.memmap(path, np.uint16, "r")
        for start, end, _, source, line in read_table(path.with_suffix(".csv.gz")):
            assert (source, int(line)) not in found
            found[source, int(line)] = ids[int(start) : int(end)].tolist()
    return found


def mixer_configuration(export: Path, source: str) -> Record:
    """Return the configuration that the export has for a source."""
    held: Record = json.loads((export / source / "mix.json").read_text())
    return held


def rules_alone(configuration: Record) -> Record:
    """Return a configuration with the filters by thresholds, and nothing else."""
    (stream,) = configuration["streams"]
    thresholds = [f for f in stream["filter"]["exclude"] if "near_duplicates" not in f]
    # The toolkit wants a filter: a source without rules gets one that is never true.
    changed = {**stream, "filter": {"exclude": thresholds or ["$.attributes[?(@.nothing)]"]}, "span_replacement": []}
    changed["output"] = {**stream["output"], "min_text_length": 0}
    return {**configuration, "streams": [changed]}


def selected(export: Path, source: str) -> set[str]:
    """Return the ids that our selection kept, as the exported attributes say."""
    return {
        line["id"]
        for path in (export / source / "attributes" / "selection").iterdir()
        for line in read_lines(path)
        if line["attributes"]["selection__selection__keep"][0][2] == 1.0
    }


def corpus(export: Path, source: str) -> dict[str, str]:
    """Return the texts of the finished corpus by id; a document that is repeated is there once."""
    paths = (export / "corpus" / "documents" / source).iterdir()
    return {line["id"]: line["text"] for path in paths for line in read_lines(path)}


def stripped(ours: list[int], theirs: list[int], is_space: Mapping[int, bool]) -> bool:
    """Say whether `theirs` are the ids of the same text without the white space at its end."""
    tail = ours[len(theirs) - 1 : -1]
    return bool(tail) and ours[: len(theirs) - 1] == theirs[:-1] and all(is_space.get(i, False) for i in tail)


def main() -> None:
    """Print one line for each comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("--environment", type=Path, default=Path(".venv-bench/dolma"))
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json: compare tokens too")
    arguments = parser.parse_args()
    export = arguments.export.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        toolkit = Toolkit(python=arguments.environment.absolute() / "bin" / "python", scratch=Path(scratch))
        for configuration in sorted(export.glob("*/mix.json")):
            source = configuration.parent.name
            held = mixer_configuration(export, source)
            kept = {one["id"] for one in toolkit.mix(export, rules_alone(held))}
            print(f"{source}: thresholds keep {len(kept)}, ours {len(selected(export, source))}, "
                  f"differing {len(kept ^ selected(export, source))}")  # fmt: skip
            texts, mine = {one["id"]: one["text"] for one in toolkit.mix(export, held)}, corpus(export, source)
            both = texts.keys() & mine.keys()
            print(f"{source}: mix leaves {len(texts)}, ours {len(mine)}, in one only {len(texts.keys() ^ mine.keys())}, "
                  f"other texts {sum(texts[i] != mine[i] for i in both)}")  # fmt: skip
        if arguments.tokenizer:
            theirs, ours = toolkit.tokens(export, arguments.tokenizer.absolute()), token_ids(export / "tokens")
            same = sum(theirs.get(place) == ids for place, ids in ours.items())
            print(
                f"tokens: {len(theirs)} documents, ours {len(ours)}, of which {same} have the same ids; the toolkit strips"
            )
            print(f"merged: {len(toolkit.merge(export, arguments.tokenizer.absolute())[0])} tokens, "
                  f"ours {sum(map(len, ours.values()))}")  # fmt: skip


if __name__ == "__main__":
    main()
