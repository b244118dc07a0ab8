"""The address of an artifact: `{kind}/{name}/{first 12 digits of its fingerprint}`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from olmo_core.errors import RecipeError

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*\Z")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class Kind(StrEnum):
    """What an artifact is."""

    INVENTORY = "inventory"
    DOCUMENTS = "documents"
    ATTRIBUTES = "attributes"
    CORPUS = "corpus"
    TOKENS = "tokens"
    MODEL = "model"
    RUN = "run"
    CHECKPOINT = "checkpoint"
    EVALUATION = "evaluation"
    REPORT = "report"


def check_name(name: str, what: str) -> str:
    """Return `name` when it can be part of an address and of a Prefect artifact key; raise RecipeError otherwise."""
    if not _NAME.match(name):
        raise RecipeError(
            f"{what} {name!r}: use lower-case letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    return name


def check_tag(tag: str) -> str:
    """Return `tag` when it can be the name of a tag file; raise RecipeError otherwise. `step1000-tokens4B` is one."""
    if not _TAG.match(tag):
        raise RecipeError(f"tag {tag!r}: use letters, digits, '.', '_' and '-', beginning with a letter or digit")
    return tag


@dataclass(frozen=True, kw_only=True)
class ArtifactRef:
    """Names one immutable artifact; small enough to be passed between Prefect tasks."""

    kind: Kind
    name: str
    fingerprint: str
    """sha256 in hex (64 digits) of what decides the artifact's content."""

    @property
    def address(self) -> str:
        """The artifact's folder, relative to the store's root."""
        return f"{self.kind}/{self.name}/{self.fingerprint[:12]}"

    @property
    def manifest_path(self) -> str:
        """The path whose existence means that the artifact is done."""
        return f"{self.address}/manifest.json"

    def to_json(self) -> dict[str, str]:
        """Return the ref as JSON values."""
        return {"kind": str(self.kind), "name": self.name, "fingerprint": self.fingerprint}

    @classmethod
    def from_json(cls, data: dict[str, str]) -> ArtifactRef:
        """Return the ref that `to_json` wrote."""
        return cls(kind=Kind(data["kind"]), name=data["name"], fingerprint=data["fingerprint"])

    def __str__(self) -> str:
        return self.address
