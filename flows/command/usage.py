"""Values that an option cannot have, whatever a store or recipe holds: they end a command with exit code 2.

argparse does so for what a `type` refuses; UsageError is for what is noticed later. Imports nothing heavy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable

from olmo_core.errors import OlmoError


class UsageError(OlmoError):
    """An option's value cannot be: exit code 2."""


def refuse(arguments: argparse.Namespace, names: Iterable[str], instead: str = "") -> None:
    """Raise UsageError for an option of these that was given, but means nothing to `arguments.flow`; `instead`: what to do."""
    for name in names:
        value = getattr(arguments, name, None)
        if value is not None and value is not False:  # 0 was given, too
            raise UsageError(f"--{name.replace('_', '-')} is no option of {arguments.flow}{instead}")


def whole(least: int) -> Callable[[str], int]:
    """Return what reads a whole number of at least `least`."""

    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value}: give a whole number of at least {least}")
        return value

    return number


def between(least: float, most: float, *, above: bool = False) -> Callable[[str], float]:
    """Return what reads a number from `least` (or above it) to `most`."""

    def number(text: str) -> float:
        value = float(text)
        if not least <= value <= most or (above and value == least):
            end = f" to {most:g}" if most != float("inf") else ""
            raise argparse.ArgumentTypeError(f"{value:g}: give a number {'above' if above else 'from'} {least:g}{end}")
        return value

    return number
