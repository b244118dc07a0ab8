"""Whether two systems did the same work: their outputs are compared before any time counts.

Rows are those that `peer_protocol` describes, one for each document in the order of the input. A row may hold `_skip`:
reasons by name for what cannot be compared (`*`: the whole row), each a known difference of the peer.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]

FEWEST_COMPARED = 0.5
"""Share of documents that must be comparable; below it an agreement would say too little."""
NGRAMS = ("gopher_fraction_of_characters_in_most_common_", "gopher_fraction_of_characters_in_duplicate_")
FEWEST_PAIRS = 3
SURE_BANDS = 15
"""Documents that share so many of 20 bands have a Jaccard similarity of about 0.95: with other hash functions they miss
each other with (1 - 0.75)^20 = 1e-12."""


class UnequalOutputs(Exception):
    """Two systems gave different results: their times must not be compared."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What was found equal."""

    equal: str
    """What, in words."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Values not compared, by reason."""

    def __str__(self) -> str:
        skipped = "".join(f"; not compared: {count} x {reason}" for reason, count in sorted(self.skipped.items()))
        return self.equal + skipped


def require_equal(pair: str, ours: Sequence[Row], theirs: Sequence[Row]) -> Agreement:
    """Compare every value that the peer's rows have with ours of that name; return what was compared.

    Numbers must be equal to the last bit. An n-gram share that the peer leaves out (fewer than n words) is 0 with us.
    Raises UnequalOutputs at the first difference, for a value that we do not have, for another number of documents, and
    when less than half of the documents can be compared.
    """
    if len(ours) != len(theirs):
        raise UnequalOutputs(f"{pair}: {len(ours)} documents came out of ours, {len(theirs)} of the peer")
    skipped: Counter[str] = Counter()
    names: dict[str, None] = {}
    compared = 0
    has_ngrams = any(name.startswith(NGRAMS) for row in theirs for name in row)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        skip = {**mine.get("_skip", {}), **other.get("_skip", {})}
        skipped.update(skip.values())
        if "*" in skip:
            continue
        values = {name: value for name, value in other.items() if name != "_skip" and name not in skip}
        for name, value in values.items():
            if name not in mine:
                raise UnequalOutputs(f"{pair}: document {number}: the peer has {name}, ours has only {', '.join(mine)}")
            if mine[name] != value:
                raise UnequalOutputs(
                    f"{pair}: document {number}: {name} is {_short(mine[name])} with us, {_short(value)} with the peer"
                )
        for name in mine.keys() - other.keys():
            if has_ngrams and name.startswith(NGRAMS) and mine[name] != 0:
                raise UnequalOutputs(f"{pair}: document {number}: {name} is {mine[name]} with us, absent with the peer")
        names.update(dict.fromkeys(values))
        compared += bool(values)
    if compared < FEWEST_COMPARED * len(ours) or not compared:
        raise UnequalOutputs(f"{pair}: only {compared} of {len(ours)} documents can be compared: {dict(skipped)}")
    what = " and ".join(names).replace("_", " ") if len(names) <= 2 else f"{len(names)} values"
    return Agreement(equal=f"{what} equal in {compared:,} documents", skipped=dict(skipped))


def require_same_neighbours(pair: str, ours: Sequence[Row], theirs: Sequence[Row]) -> Agreement:
    """Compare signatures of different hash functions: pairs that are surely alike with us must meet with the peer.

    Raises UnequalOutputs when one does not, and when there are fewer than FEWEST_PAIRS such pairs.
    """
    if len(ours) != len(theirs):
        raise UnequalOutputs(f"{pair}: {len(ours)} signatures came out of ours, {len(theirs)} of the peer")
    alike = [together for together, shared in _shared_bands(ours).items() if shared >= SURE_BANDS]
    sure = [(one, other) for one, other in alike if theirs[one]["bands"] and theirs[other]["bands"]]
    if len(sure) < FEWEST_PAIRS:
        raise UnequalOutputs(f"{pair}: only {len(sure)} pairs of near copies, too few to compare signatures")
    met = _shared_bands(theirs)
    for one, other in sure:
        if (one, other) not in met:
            raise UnequalOutputs(
                f"{pair}: documents {one} and {other} share {SURE_BANDS} bands or more with us, none with the peer"
            )
    unsigned = {"pairs of fewer than five words, which the peer does not sign": len(alike) - len(sure)}
    skipped = {reason: count for reason, count in unsigned.items() if count}
    return Agreement(equal=f"all {len(sure):,} pairs of near copies meet in both", skipped=skipped)


def _shared_bands(rows: Sequence[Row]) -> Counter[tuple[int, int]]:
    """How many bands each pair of documents has in common, for pairs that have any."""
    buckets: defaultdict[tuple[int, str], list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        for band, key in enumerate(row["bands"]):
            buckets[band, key].append(number)
    return Counter((a, b) for members in buckets.values() for i, a in enumerate(members) for b in members[i + 1 :])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + "..."
