"""What is measured: stages, systems, on which input, and which of ours each peer is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

OURS = "olmo-flows"
Worker = Literal["ours", "chain", "dolma", "datatrove", "libraries"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One stage of one system on one input."""

    stage: str
    """Name of the stage; a peer is compared with ours of the same stage and input."""
    system: str
    """Name of the system, for people."""
    worker: Worker
    """Which script runs it, in which environment."""
    input: Literal["full", "small"] = "full"
    """The whole input, or its first part for what is too slow."""
    compared: Literal["equal", "neighbours", "no"] = "no"
    """How outputs are compared with ours before times count; `no` where the definition is another one."""
    note: str = ""
    """What a reader must know of a peer whose outputs are not compared."""

    @property
    def key(self) -> str:
        """Names files and results."""
        return f"{self.stage}.{self.system.replace(' ', '-')}.{self.input}"


STAGES = {
    "read-jsonl": "Reading JSON lines",
    "read-parquet": "Reading Parquet",
    "language": "Language",
    "quality": "Quality",
    "content-lexicon": "Content, word list",
    "pii-compatible": "PII, toolkit's definition",
    "pii": "PII",
    "signatures": "Near-duplicate signatures",
    "tokenization": "Tokenization",
}
"""Names for people, in the order of the chain."""

_GOPHER_ONLY = "other words and n-gram definitions, Gopher only, stops at the first failing rule"
_PII_OTHER = "no phone numbers; replaces in the text"

CASES = (
    *(Case(stage=stage, system=OURS, worker="ours") for stage in STAGES),
    *(
        Case(stage=stage, system=OURS, worker="ours", input="small")
        for stage in ("quality", "signatures", "tokenization")
    ),
    Case(stage="chain", system=OURS, worker="chain"),
    *(
        Case(stage=stage, system="dolma", worker="dolma", compared="equal")
        for stage in ("read-jsonl", "language", "pii-compatible")
    ),
    *(
        Case(stage=stage, system="dolma", worker="dolma", input="small", compared="equal")
        for stage in ("quality", "tokenization")
    ),
    *(
        Case(stage=stage, system="datatrove", worker="datatrove", compared="equal")
        for stage in ("read-jsonl", "read-parquet", "language")
    ),
    Case(stage="tokenization", system="datatrove", worker="datatrove", input="small", compared="equal"),
    Case(stage="quality", system="datatrove", worker="datatrove", input="small", note=_GOPHER_ONLY),
    Case(stage="pii", system="datatrove", worker="datatrove", note=_PII_OTHER),
    Case(stage="signatures", system="datatrove", worker="datatrove", input="small", compared="neighbours"),
    Case(stage="language", system="fastText library", worker="libraries", compared="equal"),
    Case(stage="tokenization", system="tokenizers library", worker="libraries", input="small", compared="equal"),
    Case(stage="signatures", system="datasketch", worker="libraries", input="small", compared="neighbours"),
    Case(stage="read-parquet", system="pyarrow alone", worker="libraries", compared="equal"),
)

CHAIN_SUMS = {
    "dolma toolkit": {
        "read-jsonl": "dolma",
        "language": "dolma",
        "quality": "dolma",
        "pii-compatible": "dolma",
        "signatures": "datatrove",
        "tokenization": "dolma",
    },
    "dolma toolkit, nothing of others": {
        "read-jsonl": "dolma",
        "language": "dolma",
        "quality": "dolma",
        "pii-compatible": "dolma",
        "tokenization": "dolma",
    },
    "datatrove": {
        "read-jsonl": "datatrove",
        "language": "datatrove",
        "quality": "datatrove",
        "pii": "datatrove",
        "signatures": "datatrove",
        "tokenization": "datatrove",
    },
    "fastest peer of each stage": {
        "read-jsonl": "*",
        "language": "*",
        "quality": "*",
        "pii": "*",
        "signatures": "*",
        "tokenization": "*",
    },
}
"""What the chain is compared with: sums of measured peer stages. The toolkit has no near duplicates: datatrove's
signatures stand in. `*` is whichever measured peer took least CPU time for a byte; for `pii` those of `pii-compatible`
count too."""
