"""Finding files by glob patterns, locally and in object stores, failing closed on what cannot be listed.

Patterns are the shell's: `*` and `?` within a path component, `[abc]` and `[!abc]`, `**` for any number of folders. A
wildcard does not match a component that begins with a dot. A path that exists exactly as written is taken literally.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from olmo_core.documents.access import reading
from olmo_core.documents.files import SourceFile, is_local, modification
from olmo_core.errors import InputError, RecipeError
from olmo_core.redaction import has_user

_WILDCARD = re.compile(r"[*?\[]")
_SHOWN = 8


def list_files(source: str, paths: Sequence[str], root: str | None) -> list[SourceFile]:
    """Return the files that the patterns match, sorted by name (relative to the root), each once; nothing is read.

    Without `root` it is the longest folder that all patterns have in common, so another pattern may rename every file;
    with it, relative patterns begin there. Symbolic links are followed. Raises RecipeError when patterns and root do not
    fit together; InputError when a pattern matches nothing, when a folder is missing or unreadable, or when a matching
    name leads to no regular file.
    """
    if not paths:
        raise RecipeError(f"source {source!r}: paths is empty; name at least one file or pattern")
    for path in (*paths, *([root] if root else [])):
        if has_user(path):
            raise RecipeError(
                f"source {source!r}: {path} holds a user name or password; write the address without them, and give the credentials "
                f"in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in a Prefect block"
            )
    base = _absolute(root).rstrip("/") if root is not None else None
    patterns = [_absolute(p if base is None or not _is_relative(p) else f"{base}/{p}") for p in paths]
    base = _common_folder(source, patterns) if base is None else base
    found: dict[str, SourceFile] = {}
    for written, pattern in zip(paths, patterns, strict=True):
        if not pattern.startswith(f"{base}/"):
            raise RecipeError(f"source {source!r}: {written} is not below the root {base}; correct one of the two")
        matched = {file.name: file for file in _matches(source, written, pattern, base)}
        if not matched:
            raise InputError(f"source {source!r}: {written} matches no file; {_neighbours(pattern)}")
        found |= matched
    return [found[name] for name in sorted(found)]


def _absolute(path: str) -> str:
    path = path.removeprefix("file://")
    # Not resolve(): a symbolic link in the prefix is the user's way to name the place.
    return os.path.abspath(Path(path).expanduser()) if is_local(path) else path.rstrip("/")


def _is_relative(path: str) -> bool:
    return is_local(path) and not path.startswith(("/", "~"))


def _has_wildcard(pattern: str) -> bool:
    return bool(_WILDCARD.search(pattern)) and not (is_local(pattern) and os.path.isfile(pattern))


def _literal(pattern: str) -> str:
    """Return the longest leading folder of a pattern that has no wildcard."""
    folder = pattern.rpartition("/")[0]
    while _has_wildcard(pattern) and _WILDCARD.search(folder):
        folder = folder.rpartition("/")[0]
    return folder


def _common_folder(source: str, patterns: Sequence[str]) -> str:
    common: list[str] = []
    for parts in zip(*(_literal(p).split("/") for p in patterns), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    # A URL's root holds at least the scheme, the empty part behind it, and the bucket.
    if len(common) < (1 if is_local(patterns[0]) else 3):
        raise RecipeError(
            f"source {source!r}: its paths have no folder in common ({', '.join(patterns[:2])}, ...); make them two sources"
        )
    return "/".join(common)


def _matches(source: str, written: str, pattern: str, base: str) -> Iterator[SourceFile]:
    folder = _literal(pattern)
    rest = pattern[len(folder) + 1 :]
    wildcard = _has_wildcard(pattern)
    wanted = _expression(rest) if wildcard else re.compile(re.escape(rest))
    cut = len(base) + 1
    if not is_local(pattern):
        action = f"look for {written} (source {source!r}) in"
        for path, size, version in _remote(folder, _WILDCARD.split(rest)[0] if wildcard else rest, action):
            if wanted.fullmatch(path):
                url = f"{folder}/{path}"
                yield SourceFile(name=url[cut:], url=url, size=size, version=version)
        return
    if not os.path.isdir(folder):
        raise InputError(f"source {source!r}: {written}: there is no folder {folder}; {_nearest(folder)}")
    if wildcard:
        below = _walk(folder, None if "**" in rest.split("/") else rest.count("/") + 1)
        paths: Iterator[str] = (path for path in below if wanted.fullmatch(path))
    else:
        paths = iter([rest] if os.path.lexists(pattern) and not os.path.isdir(pattern) else [])
    for path in paths:
        yield _local_file(f"{folder}/{path}", cut)


def _local_file(path: str, cut: int) -> SourceFile:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InputError(f"the file name {path!r} is not UTF-8; rename the file") from None
    with reading(path, "look at"):
        status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} matches but is no regular file; narrow the pattern")
    return SourceFile(name=path[cut:], url=path, size=status.st_size, version=modification(status))


def _expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression for a relative glob pattern."""
    *folders, last = pattern.split("/")
    out = ""
    for folder in folders:
        out += r"(?:(?!\.)[^/]+/)*" if folder == "**" else _component(folder) + "/"
    out += r"(?:(?!\.)[^/]+/)*(?!\.)[^/]+" if last == "**" else _component(last)
    return re.compile(out, re.DOTALL)


def _component(part: str) -> str:
    out = r"(?!\.)" if part[:1] in ("*", "?", "[") else ""
    for token in re.findall(r"\[!?\]?[^\]]*\]|.", part, re.DOTALL):
        if token in ("*", "?"):
            out += "[^/]*" if token == "*" else "[^/]"
        elif len(token) > 1:
            inside = re.sub(r"([\\^\[\]])", r"\\\1", token[1:-1])
            out += f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
        else:
            out += re.escape(token)
    return out


def _walk(folder: str, depth: int | None, prefix: str = "") -> Iterator[str]:
    """Yield the paths of all that is no folder, down to `depth` levels; an unreadable folder is an error."""
    with reading(folder, "list"):
        entries = sorted(os.scandir(folder), key=lambda e: e.name)
    for entry in entries:
        if not entry.is_dir():
            yield prefix + entry.name
        elif (depth is None or depth > 1) and not _leads_back(entry):
            yield from _walk(entry.path, None if depth is None else depth - 1, f"{prefix}{entry.name}/")


def _leads_back(entry: os.DirEntry[str]) -> bool:
    here = os.path.realpath(os.path.dirname(entry.path))
    return entry.is_symlink() and f"{here}/".startswith(f"{os.path.realpath(entry.path).rstrip('/')}/")


def _remote(folder: str, head: str, action: str) -> Iterator[tuple[str, int, str]]:
    """Yield (path, size, version) of the objects whose key begins with the folder and `head`; never from a cache."""
    system, path = _remote_system(folder)
    # One listing by key prefix where the store can do it: the folder may hold millions of other objects.
    narrow = {"prefix": head} if head and folder.startswith(("s3://", "gs://")) else {}
    with reading(folder, action):
        found = system.find(path, detail=True, **narrow)
    for key, info in found.items():
        if info["type"] == "file" and not key.endswith("/"):
            version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("created") or ""
            yield key[len(path) + 1 :], int(info["size"]), str(version).strip('"')


def _remote_system(folder: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs  # here: local sources need no fsspec

    with reading(folder, "reach"):
        system, path = url_to_fs(folder, use_listings_cache=False)
    return system, path


def _neighbours(pattern: str) -> str:
    """Say what lies where the pattern looked."""
    if is_local(pattern) and os.path.isdir(pattern):
        return f"it is a folder: write {pattern}/** for all files below it"
    folder = _literal(pattern)
    if is_local(pattern):
        return _holds(folder, list(islice(_walk(folder, 1), _SHOWN + 1)))
    system, path = _remote_system(folder)
    with contextlib.suppress(FileNotFoundError):
        names = [str(name).rpartition("/")[2] for name in system.ls(path, detail=False)]
        return _holds(folder, [name for name in names if name][: _SHOWN + 1])
    return f"nothing lies below {folder}; correct the path"


def _nearest(folder: str) -> str:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    with reading(folder, "list"):
        return _holds(folder, sorted(os.listdir(folder))[: _SHOWN + 1])


def _holds(folder: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return f"{folder or '/'} holds {shown or 'no files'}; correct the path"
