"""The Prefect profile `olmo`: how `prefect` commands find a project's server from any directory.

`prefect --profile olmo deployment run build-dolma` then works outside the project, too. The user's profiles file is
edited as text, one table of it, because Prefect's own writer drops comments and settings it does not know; which
profile is active is never changed.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

from flows.command import password
from flows.command.project import State
from olmo_core.errors import OlmoError

NAME = "olmo"


def profiles_path() -> Path:
    """The user's profiles file, where Prefect looks for it."""
    if path := os.environ.get("PREFECT_PROFILES_PATH"):
        return Path(path).expanduser()
    return Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser() / "profiles.toml"


def write_profile(state: State, path: Path, secret: str | None = None) -> bool:
    """Make the profile point to a project's server; returns whether the file had to be changed.

    With a password (`secret`) in it only its owner can read the file any more. Settings that somebody added to the
    profile are kept. Raises OlmoError, with nothing written, when the file is not
    valid TOML or the profile cannot be replaced without touching the rest.
    """
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        before = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OlmoError(f"{path} is not valid TOML ({error}); repair it, or set PREFECT_PROFILES_PATH") from error
    old = before.get("profiles", {}).get(NAME, {})
    new = {name: value for name, value in old.items() if name != password.CLIENT}
    new |= {"PREFECT_API_URL": state.api_url, "PREFECT_UI_URL": state.ui_url, "PREFECT_PLUGINS_ENABLED": "true"}
    new |= {password.CLIENT: secret} if secret else {}
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    if new == old and not (secret and mode & 0o077):
        return False
    table = f"[profiles.{NAME}]\n" + "".join(f"{key} = {_quoted(value)}\n" for key, value in new.items())
    header = re.compile(rf"^\[profiles\.{NAME}\][^\n]*\n(?:(?!\s*\[)[^\n]*\n?)*", re.MULTILINE)
    text, replaced = header.subn(lambda _: table, text, count=1)
    if not replaced:
        text = text.rstrip("\n") + ("\n\n" if text.strip() else "") + table
    expected = before | {"profiles": before.get("profiles", {}) | {NAME: new}}
    try:
        unharmed = tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        unharmed = False
    if not unharmed:
        raise OlmoError(f"the table [profiles.{NAME}] of {path} has a form this command cannot edit; remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.chmod(mode & 0o700 if secret else mode)
    temporary.replace(path)
    return True


def _quoted(value: object) -> str:
    """A TOML literal for a profile's value (text, whole number or truth value)."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
