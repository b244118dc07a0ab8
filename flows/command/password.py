"""The password of a project's Prefect server: when it has one, where it lies, who gets it.

A server that listens beyond this machine always has one: that of PREFECT_SERVER_API_AUTH_STRING, else a random one. It is
kept in the state folder, readable by its owner only, from where the services, the `olmo` commands and, by the plugin,
`prefect` commands in the checkout take it. It is handed on in environments, which others cannot read, never on a
command line; no log and no message has it. Nothing here imports Prefect.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import socket
import stat
from pathlib import Path

from flows.command.project import Project
from olmo_core.errors import OlmoError

SERVER = "PREFECT_SERVER_API_AUTH_STRING"
"""Variable by which the server is told its password."""
CLIENT = "PREFECT_API_AUTH_STRING"
"""Variable by which clients (workers, flow runs, commands) are told it."""
USER = "admin"
"""Prefect knows no users: this is only the first half of `user:password`."""
SHORTEST = 8
"""Characters of a password; shorter ones are words, which cannot be kept out of logs (olmo_core/redaction.py)."""


class PasswordError(OlmoError):
    """The server's password is missing, badly formed, readable by others, or not the one that was given."""


def file_of(project: Project) -> Path:
    """Where the password lies; the file is there only if the server has one."""
    return project.home / "password"


def stored(project: Project) -> str | None:
    """The password with which the server was started, `user:password`; None when it has none."""
    try:
        return file_of(project).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PasswordError(
            f"{file_of(project)} cannot be read ({error}); `olmo down`, delete it, `olmo up`"
        ) from error


def of_commands(project: Project) -> str | None:
    """What commands send to the project's server: PREFECT_API_AUTH_STRING if it is set, as Prefect's own do, else the stored one.

    Where PREFECT_API_URL names another server, that variable is for that one, and stays away from whoever listens here.
    """
    url = project.read_state().api_url
    here = os.environ.get("PREFECT_API_URL", url).rstrip("/") == url
    return (os.environ.get(CLIENT) if here else None) or stored(project)


def refused(*, given: bool, elsewhere: bool = False) -> str:
    """What to tell somebody whom the server answered 401; `elsewhere`: no project here has started it."""
    if elsewhere:
        what = f"it has another password than {CLIENT} says" if given else "it wants a password"
        return f"{what}: set {CLIENT}=user:password to that with which the server was started"
    if os.environ.get(CLIENT):
        return f"it has another password than {CLIENT} says: correct that variable, or unset it in this project's directory"
    if given:
        return "it has another password than the file `password` in the state folder says: `olmo down`, then `olmo up`"
    return (
        f"it wants a password: set {CLIENT}=user:password; if it is this project's and the file `password` in the state "
        "folder is gone, `olmo down`, then `olmo up` makes a new one"
    )


def settle(project: Project, host: str) -> bool:
    """Decide the password with which a server on `host` is started, and keep it; returns whether it is new.

    That of PREFECT_SERVER_API_AUTH_STRING; else the one of last time; else, beyond loopback, a random one; else none.
    Raises PasswordError, naming variable or file, when it cannot serve.
    """
    kept, named = stored(project), os.environ.get(SERVER)
    if named:
        _check(named, SERVER)
    elif kept:
        _check(kept, str(file_of(project)))
        if (mode := stat.S_IMODE(file_of(project).stat().st_mode)) & 0o077:
            raise PasswordError(
                f"{file_of(project)} can be read by others (mode {mode:o}); delete it, so that `olmo up` makes a new password"
            )
    wanted = named or kept or (None if is_loopback(host) else f"{USER}:{secrets.token_urlsafe(24)}")
    if wanted and os.environ.get(CLIENT, wanted) != wanted:
        raise PasswordError(
            f"{CLIENT} is not the password that the server is to have; unset it, or set {SERVER} to it too"
        )
    if wanted and wanted != kept:
        _write(file_of(project), wanted)
    return wanted != kept


def _check(value: str, where: str) -> None:
    user, colon, word = value.partition(":")
    if not user or not colon or len(word) < SHORTEST or not value.isascii() or any(one.isspace() for one in value):
        raise PasswordError(
            f"{where}: give user:password in ASCII without spaces, the password of {SHORTEST} characters at least"
        )


def _write(path: Path, value: str) -> None:
    """Replace the file in one step; at no moment can others read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(value + "\n")
    temporary.replace(path)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on an address or name.

    Raises PasswordError for a name that means nothing here.
    """
    try:
        found = {str(address[4][0]) for address in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError) as error:
        raise PasswordError(
            f"{host!r} is no address or name of this machine ({error}); give --host or OLMO_HOST another"
        ) from error
    return all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in found)
