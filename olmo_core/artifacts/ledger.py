"""The ledger of a stage: in + repeated = kept + dropped by reason + quarantined, in documents and in bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from olmo_core.errors import IntegrityError, QuarantineError


@dataclass(kw_only=True)
class Tally:
    """A number of documents and the bytes of their original UTF-8 text."""

    documents: int = 0
    bytes: int = 0

    def add(self, documents: int, size: int) -> None:
        """Count `documents` more documents of `size` bytes in all."""
        self.documents += int(documents)
        self.bytes += int(size)

    def __add__(self, other: Tally) -> Tally:
        return Tally(documents=self.documents + other.documents, bytes=self.bytes + other.bytes)

    def to_json(self) -> dict[str, int]:
        """Return the two numbers as JSON values."""
        return {"documents": self.documents, "bytes": self.bytes}


@dataclass(kw_only=True)
class Ledger:
    """Where every document that came in went. Bytes are always those of the original text."""

    read: Tally = field(default_factory=Tally)
    repeated: Tally = field(default_factory=Tally)
    kept: Tally = field(default_factory=Tally)
    dropped: dict[str, Tally] = field(default_factory=dict)
    quarantined: dict[str, Tally] = field(default_factory=dict)

    def drop(self, reason: str, documents: int, size: int) -> None:
        """Count documents dropped for `reason`."""
        if documents:
            self.dropped.setdefault(reason, Tally()).add(documents, size)

    def quarantine(self, reason: str, documents: int, size: int) -> None:
        """Count records quarantined for `reason`."""
        if documents:
            self.quarantined.setdefault(reason, Tally()).add(documents, size)

    def balance(self, where: str) -> None:
        """Raise IntegrityError, with both sides, when something came in that went nowhere, or the reverse."""
        came = self.read + self.repeated
        went = sum(self.dropped.values(), Tally()) + sum(self.quarantined.values(), Tally()) + self.kept
        if came != went:
            raise IntegrityError(
                f"{where}: the ledger does not balance: in + repeated = {came.to_json()}, "
                f"kept + dropped + quarantined = {went.to_json()}; nothing was published. This is a bug: please report it"
            )

    def check_quarantine(self, limit: float, where: str, folder: str, first: Callable[[], str] = str) -> None:
        """Raise QuarantineError when more than the fraction `limit` of the records was quarantined into `folder`.

        `first` is asked only then, and names the first of them.
        """
        bad = sum(self.quarantined.values(), Tally()).documents
        if bad and bad > limit * self.read.documents:
            reasons = ", ".join(f"{reason} {tally.documents}" for reason, tally in sorted(self.quarantined.items()))
            raise QuarantineError(
                f"{where}: {bad} of {self.read.documents} records were quarantined ({reasons}), more than the limit of "
                f"{limit:.3%}; nothing was published. {first()}The records are in {folder}/*.quarantine*.parquet in the store, with "
                f"reason and position. Mend the input, or raise `quarantine_limit` in the recipe"
                + (
                    "; integer ids are taken with `integer_ids: stringify` on the source"
                    if "wrong_type" in self.quarantined
                    else ""
                )
            )

    def to_json(self) -> dict[str, Any]:
        """Return the ledger as JSON values, reasons sorted."""
        return {
            "in": self.read.to_json(),
            "repeated": self.repeated.to_json(),
            "kept": self.kept.to_json(),
            "dropped": {k: v.to_json() for k, v in sorted(self.dropped.items())},
            "quarantined": {k: v.to_json() for k, v in sorted(self.quarantined.items())},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ledger:
        """Return the ledger that `to_json` wrote."""
        return cls(
            read=Tally(**data["in"]),
            repeated=Tally(**data["repeated"]),
            kept=Tally(**data["kept"]),
            dropped={k: Tally(**v) for k, v in data["dropped"].items()},
            quarantined={k: Tally(**v) for k, v in data["quarantined"].items()},
        )

    @classmethod
    def total(cls, ledgers: Iterable[Ledger]) -> Ledger:
        """Return the sum of several ledgers (the shards of a stage)."""
        result = cls()
        for one in ledgers:
            result.read += one.read
            result.repeated += one.repeated
            result.kept += one.kept
            for reason, tally in one.dropped.items():
                result.drop(reason, tally.documents, tally.bytes)
            for reason, tally in one.quarantined.items():
                result.quarantine(reason, tally.documents, tally.bytes)
        return result
