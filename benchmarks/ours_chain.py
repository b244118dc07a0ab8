"""The whole chain in one process, from a JSON lines file to memory-mapped tokens: `python -m benchmarks.ours_chain ...`.

The same steps as the flow runs, with the artifact store in a scratch folder, all columns written and read back. No rule
drops anything here, so that every stage sees every document; duplicates are dropped, PII is masked. The content stage
(no peer here) and the report (for people) are built or left out, but not counted. A first chain over a few
documents loads code and models and is not counted either.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import yaml

from benchmarks.ours import PACKAGES
from benchmarks.peer_protocol import (
    WARM_UP_DOCUMENTS,
    Row,
    drop_from_cache,
    options_parser,
    read_jsonl,
    report,
    timed,
    token_row,
)
from olmo_core.artifacts.store import ArtifactStore
from olmo_core.curation.chain import CORPUS_STAGES, SOURCE_STAGES
from olmo_core.curation.corpus_recipe import load_recipe
from olmo_core.documents.shards import read_shard
from olmo_core.workers import Workers
from tasks.session import Resources, Session

T = TypeVar("T")
SOURCE = "all-text"
NOT_COUNTED = ("content", "report")
STAGES = [(stage, SOURCE) for stage in SOURCE_STAGES] + [(stage, "all") for stage in CORPUS_STAGES if stage != "report"]


class ThisProcess(Workers):
    """Stands in for the pool of workers: does every shard here, so that its CPU time is this process's."""

    def map(
        self,
        function: Callable[[Any], T],
        jobs: Sequence[Any],
        name: Callable[[Any], str],
        *,
        first_alone: bool = False,
    ) -> Iterator[tuple[Any, T]]:
        """Yield jobs with their results."""
        for job in jobs:
            yield job, function(job)


def session(path: Path, folder: Path) -> Session:
    """A session over one file, its recipe and store in a folder."""
    folder.mkdir(parents=True)
    recipe = {
        "name": "bench",
        "content": {"kind": "lexicon"},
        "quarantine_limit": 0.0,
        "sources": [{"read": {"kind": "dolma-jsonl", "name": SOURCE, "paths": [str(path)]}}],
    }
    (folder / "bench.yaml").write_text(yaml.safe_dump(recipe))
    resources = Resources(store=str(folder / "store"), workers=1)
    return Session(
        load_recipe(str(folder / "bench.yaml")),
        resources,
        ArtifactStore(str(folder / "store")),
        ThisProcess(1),
    )


def warm_up(documents: list[Row]) -> list[Row]:
    """A few documents with near copies that hold an address, so that every stage has something to do."""
    first = documents[:WARM_UP_DOCUMENTS]
    return first + [
        {**one, "id": one["id"] + "-copy", "text": one["text"] + " Ask someone@example.org."} for one in first
    ]


def run_chain(one: Session) -> dict[str, dict[str, float]]:
    """Build every stage; return CPU and wall seconds and the bytes that went in and were kept, by stage."""
    found = {}
    for stage, source in STAGES:
        built, cpu, wall = timed(lambda stage=stage, source=source: one.build(stage, source, lambda progress: None))  # type: ignore[misc]
        ledger = built.manifest.ledger
        found[stage] = {"cpu": cpu, "wall": wall, "bytes": ledger.read.bytes, "bytes_kept": ledger.kept.bytes}
    return found


def corpus_rows(one: Session, documents: Path, outputs: Path) -> None:
    """Write the corpus as JSON lines, and for each of its documents the token row that the token artifact holds."""
    import numpy as np

    storage = one.store.storage
    corpus = {o.key: o.path for o in one.built["mixing/all"].manifest.objects}
    packed = {o.key: o for o in one.built["packing/all"].manifest.objects}
    with documents.open("w", encoding="utf-8") as texts, outputs.open("w", encoding="utf-8") as rows:
        for key, index in packed.items():
            if key.endswith(".npy"):
                continue
            ids_object = packed[key.split(".")[0] + ".npy"]
            ids = np.frombuffer(storage.read(ids_object.path), ids_object.meta["dtype"])
            entries = read_shard(storage, index.path).to_pylist()
            for shard in sorted({entry["shard"] for entry in entries}):
                text = read_shard(storage, corpus[shard], ["id", "text"]).to_pylist()
                for entry in (entry for entry in entries if entry["shard"] == shard):
                    texts.write(json.dumps({**text[entry["row"]], "source": entry["source"]}) + "\n")
                    own = ids[entry["start"] : entry["start"] + entry["length"]]
                    rows.write(json.dumps({**token_row(own[:-1]), "ends_with": int(own[-1])}) + "\n")


def main() -> None:
    """Run the chain, print seconds by stage."""
    options = options_parser().parse_args()
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    documents = read_jsonl(options.input)
    scratch = Path(options.scratch)
    first = scratch / "first.jsonl"
    first.write_text("".join(json.dumps(one) + "\n" for one in warm_up(documents)), "utf-8")
    _, _, ready = timed(lambda: run_chain(session(first, scratch / "first")))
    measured = session(Path(options.input), scratch / "measured")
    cold = drop_from_cache(options.input)
    stages = run_chain(measured)
    if options.outputs:
        corpus_rows(measured, Path(options.outputs).with_suffix(".corpus.jsonl"), Path(options.outputs))
    counted = [seconds for stage, seconds in stages.items() if stage not in NOT_COUNTED]
    cpu, wall = sum(s["cpu"] for s in counted), sum(s["wall"] for s in counted)
    what = "inventory to packing, one process, without content and report"
    report(options, PACKAGES, what, documents, cpu=cpu, wall=wall, ready=ready, stages=stages, cold_input=cold)


if __name__ == "__main__":
    main()
