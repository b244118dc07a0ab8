"""Compare the compiled encoder with the `tokenizers` library on all the real text a machine has, and time both.

    python tests/oracles/tokenizer_agreement.py TOKENIZER.json [FOLDER ...] [--kinds given prose code] [--megabytes 60]

Reads prose and code of any Python installation (package metadata, documentation, sources), /usr/share/doc, and every
text file in the folders given (also .gz and .bz2). Exits with 1 and names the first differing document if ids differ.
Speeds are in MB (10^6 bytes of UTF-8) per second of one thread's processor time for the compiled encoder, of
processor time over all threads for the library.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import tokenizers

from olmo_core.tokens.tokenizer import Tokenizer

PROSE = (".md", ".rst", ".txt", "METADATA", "copyright", "LICENSE", ".html", ".jsonl", ".warc", ".xml", ".csv")
CODE = (".py", ".pyi", ".c", ".h", ".js", ".json", ".toml")
_BATCH_BYTES = 4_000_000


def _text(path: Path) -> str:
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
    with opener(path, "rb") as stream:
        return stream.read().decode("utf-8", errors="replace")


def documents(folders: list[Path], endings: tuple[str, ...], limit: int) -> Iterator[str]:
    """Yield the texts of files whose name, less .gz or .bz2, has one of the endings, up to `limit` bytes in all."""
    seen = 0
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            name = path.name.removesuffix(".gz").removesuffix(".bz2")
            if not name.endswith(endings) or not path.is_file() or path.is_symlink():
                continue
            text = _text(path)
            yield text
            seen += len(text)
            if seen > limit:
                return


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def compare(path: Path, kind: str, texts: Iterator[str]) -> bool:
    """Print one line of counts and speeds; False at the first difference."""
    compiled = Tokenizer.from_file(path, engine="compiled")
    library = tokenizers.Tokenizer.from_file(str(path))
    library.encode_special_tokens = True
    size = rows = count = 0
    ours = theirs = 0.0
    for batch in _batches(texts):
        array = pa.array(batch, pa.large_string())
        start = time.thread_time()
        ids, offsets = compiled.encode(array)
        ours += time.thread_time() - start
        start = time.process_time()
        expected = library.encode_batch_fast(batch, add_special_tokens=False)
        theirs += time.process_time() - start
        for row, encoding in enumerate(expected):
            if ids[offsets[row] : offsets[row + 1]].tolist() != encoding.ids:
                print(f"{kind}: ids differ in the document that begins {batch[row][:200]!r}")
                return False
        size += sum(len(text.encode()) for text in batch)
        rows += len(batch)
        count += len(ids)
    megabytes = size / 1e6
    speeds = f"compiled {megabytes / ours:.0f} MB/s, library {megabytes / theirs:.1f} MB/s" if rows else ""
    print(f"{kind}: {rows} documents, {megabytes:.1f} MB, {count} ids, all equal; {speeds}")
    return True


def main() -> int:
    """Compare prose, code and the given folders; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--megabytes", type=int, default=60, help="at most this much of each kind")
    parser.add_argument("--kinds", nargs="*", default=["given", "prose", "code"])
    options = parser.parse_args()
    here = [Path("/usr/share/doc"), *(Path(sysconfig.get_paths()[name]) for name in ("purelib", "stdlib"))]
    parts = {"given": (options.folders, PROSE + CODE), "prose": (here, PROSE), "code": (here[::-1], CODE)}
    equal = True
    for kind in options.kinds:
        equal &= compare(options.tokenizer, kind, documents(*parts[kind], options.megabytes * 10**6))
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
