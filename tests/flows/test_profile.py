"""The Prefect profile `olmo` in the user's profiles file."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from flows.command.profile import write_profile
from flows.command.project import State
from olmo_core.errors import OlmoError

USERS = """\
active = "cloud"  # mine

[profiles.cloud]
PREFECT_API_KEY = "secret # not a comment"

[profiles.olmo]
# a note
PREFECT_API_URL = "http://127.0.0.1:4100/api"
PREFECT_LOGGING_LEVEL = "DEBUG"

[profiles.last]
PREFECT_UNKNOWN = 1
"""


def test_new_file_has_only_the_profile(tmp_path: Path) -> None:
    """No active profile, readable by its owner only."""
    path = tmp_path / "new" / "profiles.toml"
    assert write_profile(State(port=4300), path)
    assert tomllib.loads(path.read_text(encoding="utf-8")) == {
        "profiles": {
            "olmo": {
                "PREFECT_API_URL": "http://127.0.0.1:4300/api",
                "PREFECT_UI_URL": "http://127.0.0.1:4300/v2",
                "PREFECT_PLUGINS_ENABLED": "true",
            }
        }
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not write_profile(State(port=4300), path), "nothing to change the second time"


def test_rest_of_the_users_file_is_untouched(tmp_path: Path) -> None:
    """Comments, unknown settings, the active profile, and what the user added to the profile itself."""
    path = tmp_path / "profiles.toml"
    path.write_text(USERS, encoding="utf-8")
    assert write_profile(State(port=4300), path)
    text = path.read_text(encoding="utf-8")
    before, after = USERS.split("[profiles.olmo]")[0], USERS.split("[profiles.last]")[1]
    assert text.startswith(before)
    assert text.endswith(after)
    profile = tomllib.loads(text)["profiles"]["olmo"]
    assert profile["PREFECT_API_URL"] == "http://127.0.0.1:4300/api"
    assert profile["PREFECT_LOGGING_LEVEL"] == "DEBUG"


@pytest.mark.parametrize(
    "text", ["this is not TOML", 'profiles.olmo.PREFECT_API_URL = "x"\n', "[profiles]\nolmo = {}\n"]
)
def test_file_that_cannot_be_edited_stays_as_it_is(tmp_path: Path, text: str) -> None:
    """An error that says what to do, and not a changed byte."""
    path = tmp_path / "profiles.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(OlmoError):
        write_profile(State(port=4300), path)
    assert path.read_text(encoding="utf-8") == text
