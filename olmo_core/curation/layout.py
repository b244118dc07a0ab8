"""How the chain's artifacts are laid out: what their readers need to know, without the stages that write them."""

from __future__ import annotations

from olmo_core.artifacts.manifest import Manifest, StoredObject

TAG_STAGES = ("language", "quality", "content", "pii", "signatures")
"""Stages that add columns about the documents of one source, shard by shard in the same order."""

QUARANTINE = "quarantine"
"""Role (in an object's `meta`) of the shards of a documents artifact that hold records which are no documents."""

CORPUS_REPORT = "report"
"""Stage of a corpus's report; reports on evaluations, variants and whole chains have other ones."""

KEEP, REASON = "keep", "reason"
FAILS = "fails_"
"""Columns of a selection; `fails_{rule}` holds each rule's verdict alone."""

IDS, NPY, INDEX = ".ids", ".npy", ".index"
"""Ends of the keys of token objects: ids before packing, packed ids, the way from tokens back to documents."""


def document_objects(manifest: Manifest) -> list[StoredObject]:
    """Return the document shards of a documents artifact, without the quarantine, in order of key."""
    return [o for o in manifest.objects if o.meta.get("role") != QUARANTINE]


def quarantine_objects(manifest: Manifest) -> list[StoredObject]:
    """Return the shards of a documents artifact that hold quarantined records, in order of key."""
    return [o for o in manifest.objects if o.meta.get("role") == QUARANTINE]


def count_of(one: StoredObject, what: str) -> int:
    """Return how many rows an object says it has of a kind; of one that is only predicted, that it may have some."""
    return int(one.meta.get(what, 0 if one.sha256 else 1))
