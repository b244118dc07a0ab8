"""What came out the same and what did not, and what may be the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from olmo_core.artifacts.manifest import Manifest
from olmo_core.artifacts.ref import ArtifactRef


class Verdict(StrEnum):
    """How a rebuilt artifact compares with the one it repeats."""

    SAME = "same bytes"
    ROWS = "same rows"
    """Equal logical digests in other bytes: another version of a library wrote the files."""
    NEAR = "within the rule"
    """Not equal, but as near as the rule for its kind asks: see `olmo_core.reproduction.training`, `evaluations`."""
    DIFFERENT = "different"
    COPIED = "copied"
    """It could not be rebuilt, and was taken over, so that what follows could be."""

    @property
    def well(self) -> bool:
        """Whether nothing speaks against it."""
        return self is not Verdict.DIFFERENT


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one artifact."""

    ref: ArtifactRef
    stage: str
    verdict: Verdict
    detail: str = ""
    """Which objects differ, how far numbers are apart, why it was copied."""
    inputs_differ: tuple[str, ...] = ()
    """Addresses of its inputs that came out different: then nobody can expect this one to be the same."""
    environment: tuple[str, ...] = ()
    """What is not as it was when the artifact was made."""
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {
            "artifact": str(self.ref),
            "stage": self.stage,
            "verdict": str(self.verdict),
            "detail": self.detail,
            "inputs_differ": list(self.inputs_differ),
            "environment": list(self.environment),
            "seconds": round(self.seconds, 2),
        }


_SHOWN = 4
_COMPARED = ("olmo-flows", "commit", "changes", "python", "machine", "processor", "gpus", "threads")
"""Of the environment, beside packages: what may change bytes."""


def compare(made: Manifest, again: Manifest) -> tuple[Verdict, str]:
    """Return how the objects of two artifacts compare, and which differ."""
    before, after = {o.key: o for o in made.objects}, {o.key: o for o in again.objects}
    missing, more = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    both = sorted(before.keys() & after.keys())
    rows = [key for key in both if before[key].digest != after[key].digest]
    bytes_ = [key for key in both if before[key].sha256 != after[key].sha256]
    parts = [
        f"{len(some)} of {len(before)} objects {what}: {_some(some)}"
        for some, what in ((rows, "have other contents"), (missing, "are missing"), (more, "are new"))
        if some
    ]
    if parts:
        return Verdict.DIFFERENT, "; ".join(parts)
    if bytes_:
        return Verdict.ROWS, f"{len(bytes_)} of {len(before)} objects have other bytes: {_some(bytes_)}"
    return Verdict.SAME, f"{len(before)} objects"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def environment_differences(made: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what is not as it was, as `name: before -> now`; what an old manifest does not say is left out."""
    found = [
        f"{name}: {_short(made[name])} -> {_short(now.get(name))}"
        for name in _COMPARED
        if name in made and made[name] != now.get(name)
    ]
    before, after = made.get("packages", {}), now.get("packages", {})
    for name in sorted(before):
        if before[name] != after.get(name):
            found.append(f"{name}: {before[name]} -> {after.get(name, 'not installed')}")
    return tuple(found)


def _short(value: Any) -> str:
    shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return (shown[:12] + "…" if len(shown) > 40 and " " not in shown else shown) or "none"
