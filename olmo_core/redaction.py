"""Keeping credentials out of messages: those of this process's environment, and those written into addresses.

Credentials come from the environment only. Libraries repeat addresses in their errors (an endpoint, a proxy), so every
message of this project goes through `redacted`, and so do tracebacks where they are logged.
"""

from __future__ import annotations

import os
import re

SHOWN = "***"
_USER = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/?#'\"<>]*)@")
_PASSWORD = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/:@'\"<>]+:[^\s@'\"<>]+)@")
"""As above, with a password that holds slashes, as keys of AWS do."""
_SIGNED = re.compile(
    r"(?P<name>[?&](?:X-Amz-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId|sig|token|access_token)=)[^&\s'\"<>]+",
    re.IGNORECASE,
)
_SECRET = re.compile(r"(^|_)(SECRET|TOKEN|PASSWORD|ACCESS_KEY|API_KEY|AUTH_STRING)(_|$)", re.IGNORECASE)
_SHORTEST = 8
"""Shorter values are words that occur in messages for other reasons."""


def redacted(text: str) -> str:
    """Return a text without the credentials in it: users and passwords of addresses, signatures, values from the environment."""
    for value in _values():
        text = text.replace(value, SHOWN)
    for pattern in (_USER, _PASSWORD):
        text = pattern.sub(rf"\g<scheme>{SHOWN}@", text)
    return _SIGNED.sub(rf"\g<name>{SHOWN}", text)


def has_user(address: str) -> bool:
    """Say whether an address holds a user name or password (`s3://key:secret@bucket`)."""
    return bool(_USER.match(address) or _PASSWORD.match(address))


def _values() -> list[str]:
    """Return the secrets of the environment, the longest first, as one may be part of another."""
    found = {value for name, value in os.environ.items() if _SECRET.search(name) and not value.startswith("/")}
    for name, value in os.environ.items():
        if name.lower().endswith(("_proxy", "_url")) and (match := _USER.search(value)):
            found |= {match["user"], match["user"].partition(":")[2]}
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)
