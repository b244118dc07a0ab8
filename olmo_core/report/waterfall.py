"""The waterfall: documents, bytes and tokens from the first stage to the last, dropped by stage and reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from olmo_core.artifacts.ledger import Tally
from olmo_core.artifacts.manifest import Manifest
from olmo_core.errors import IntegrityError

LOSING_STAGES = ("documents", "selection", "decontamination", "near-duplicates", "mixing")
"""Stages that can quarantine or drop documents, where a corpus has them; taggers keep every row."""

CUT, GROWN = "cut and masked", "grown by masks"
LOST = "documents were lost or doubled between two stages. This is a bug: please report it"
GAINS = ("repeated", GROWN)
"""Lines that add to what came in; all others but `in` and `kept` take away."""


@dataclass(frozen=True, kw_only=True)
class WaterfallLine:
    """One line: what came into a stage, what was taken out for one reason, or what is left after it."""

    stage: str
    source: str
    what: str
    """`in`, `kept`, `repeated`, what rewriting did, or the reason for which documents were dropped or quarantined."""
    documents: int
    bytes: int
    tokens: int
    """Estimated from the bytes, except in the stage `packing`, where they are counted."""

    @property
    def sign(self) -> str:
        """`+` for what a stage added, `-` for what it took away, nothing for what came in and what was left."""
        return "" if self.what in ("in", "kept") else "+" if self.what in GAINS else "-"

    def to_json(self) -> dict[str, Any]:
        """Return the line as JSON values."""
        return dict(self.__dict__)


def waterfall(manifests: Mapping[str, Manifest]) -> list[WaterfallLine]:
    """Return the lines of the waterfall in chain order, given manifests by `stage/source`.

    Raises IntegrityError when a stage did not get exactly what the one before it kept.
    """
    planned = manifests["mixture/all"].counts["sources"]
    total_bytes = sum(s["bytes"] for s in planned.values())
    per_byte = sum(s["estimated_tokens"] for s in planned.values()) / total_bytes if total_bytes else 0.0
    by_source = {name: s["estimated_tokens"] / s["bytes"] if s["bytes"] else per_byte for name, s in planned.items()}
    lines: list[WaterfallLine] = []
    sources = sorted(planned)
    for stage in _present(manifests, LOSING_STAGES):
        for source in sources if f"{stage}/all" not in manifests else ["all"]:
            ledger = manifests[f"{stage}/{source}"].ledger
            rate = by_source.get(source, per_byte)
            lost = {**ledger.dropped, **{f"quarantined: {k}": v for k, v in ledger.quarantined.items()}}
            parts = [
                ("in", ledger.read),
                ("repeated", ledger.repeated),
                *_in_order(manifests, stage, source, lost),
                ("kept", ledger.kept),
            ]
            if stage == "mixing":
                parts[-1:] = _rewritten(manifests["mixing/all"], ledger.kept)
            lines += [
                _line(stage, source, what, tally, rate)
                for what, tally in parts
                if what in ("in", "kept") or tally.documents or tally.bytes
            ]
    packed = manifests["packing/all"]
    tokens = int(packed.counts.get("tokens", 0))
    kept = packed.ledger.kept
    lines.append(
        WaterfallLine(
            stage="packing", source="all", what="kept", documents=kept.documents, bytes=kept.bytes, tokens=tokens
        )
    )
    check_joints(manifests, sources)
    return lines + [line for split in held_out(manifests) for line in _held_out_lines(manifests, split, per_byte)]


def held_out(manifests: Mapping[str, Manifest]) -> list[str]:
    """Return the names of a corpus's held-out splits."""
    return [split["name"] for split in manifests["splits/all"].recipe["held_out"]] if "splits/all" in manifests else []


def _held_out_lines(manifests: Mapping[str, Manifest], split: str, per_byte: float) -> list[WaterfallLine]:
    """Return what became of a held-out split in mixing, and its tokens. Raises IntegrityError for what training did not leave to it."""
    mixing, packed = manifests[f"mixing/{split}"], manifests[f"packing/{split}"]
    left = manifests["mixing/all"].ledger.dropped.get(f"held out: {split}", Tally())
    for before, kept, after, read in (
        ("mixing/all held out", left, f"mixing/{split}", mixing.ledger.read),
        (f"mixing/{split} kept", _written(mixing), f"packing/{split}", packed.ledger.read),
    ):
        if kept != read:
            raise IntegrityError(f"{before} {kept.to_json()} but {after} read {read.to_json()}: {LOST}")
    parts = [("in", mixing.ledger.read), *mixing.ledger.dropped.items(), *_rewritten(mixing, mixing.ledger.kept)]
    lines = [_line("mixing", split, what, tally, per_byte) for what, tally in parts if tally.bytes or what == "kept"]
    tokens = int(packed.counts.get("tokens", 0))
    return [*lines, replace(_line("packing", split, "kept", packed.ledger.kept, 0), tokens=tokens)]


def _written(mixing: Manifest) -> Tally:
    written = sum(int(size) for size in mixing.counts.get("text_bytes", {}).values())
    return Tally(documents=mixing.ledger.kept.documents, bytes=written)


def _rewritten(mixing: Manifest, kept: Tally) -> list[tuple[str, Tally]]:
    """Return what cutting and masking, together, took from the texts that stayed or added to them, and what was written."""
    written = _written(mixing)
    less = kept.bytes - written.bytes
    changed = (CUT, Tally(bytes=less)) if less > 0 else (GROWN, Tally(bytes=-less))
    return [changed, ("kept", written)]


def check_joints(manifests: Mapping[str, Manifest], sources: Sequence[str]) -> None:
    """Raise IntegrityError when what one stage kept is not what the next one read."""
    joints = [
        ("documents", "selection", True),
        ("selection", "decontamination", True),
        (_present(manifests, ("selection", "decontamination"))[-1], "near-duplicates", False),
        ("near-duplicates", "mixing", False),
    ]
    joints += [("mixing", "tokenization", False), ("tokenization", "packing", False)]
    for before, after, each in joints:
        if not _present(manifests, (after,)):
            continue
        for source in sources if each else ["all"]:
            kept = _sum(
                manifests, before, sources if not each and f"{before}/all" not in manifests else [source], "kept"
            )
            read = _sum(manifests, after, [source], "read")
            same = kept == read if after not in ("tokenization",) else kept.documents == read.documents
            if not same:
                raise IntegrityError(
                    f"{before} kept {kept.to_json()} but {after}/{source} read {read.to_json()}: {LOST}"
                )


def _present(manifests: Mapping[str, Manifest], stages: Sequence[str]) -> list[str]:
    """Return those of the stages that the corpus has."""
    there = {label.split("/")[0] for label in manifests}
    return [stage for stage in stages if stage in there]


def _sum(manifests: Mapping[str, Manifest], stage: str, sources: Sequence[str], side: str) -> Tally:
    return sum((getattr(manifests[f"{stage}/{s}"].ledger, side) for s in sources), Tally())


def _in_order(
    manifests: Mapping[str, Manifest], stage: str, source: str, lost: Mapping[str, Tally]
) -> list[tuple[str, Tally]]:
    """Return the reasons in the order of the rules where there are rules, else the largest first."""
    rules = ["takedown", "takedown_copy"]
    rules += [r["name"] for r in manifests[f"{stage}/{source}"].recipe.get("rules", [])]
    rest = sorted((k for k in lost if k not in rules), key=lambda k: -lost[k].documents)
    return [(k, lost[k]) for k in [*rules, *rest] if k in lost]


def _line(stage: str, source: str, what: str, tally: Tally, per_byte: float) -> WaterfallLine:
    return WaterfallLine(
        stage=stage,
        source=source,
        what=what,
        documents=tally.documents,
        bytes=tally.bytes,
        tokens=round(tally.bytes * per_byte),
    )
