"""Credentials of the object store from a Prefect block, for the time of one run.

The block is one of Prefect's own type `secret`, so that no further package is needed; its value is a JSON object of
environment variables: {"AWS_ACCESS_KEY_ID": "...", "AWS_SECRET_ACCESS_KEY": "...", "AWS_ENDPOINT_URL": "..."}. The
server keeps it encrypted. It is put into the environment of this process and of its workers, and nowhere else.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

from prefect.blocks.system import Secret

from olmo_core.errors import RecipeError
from olmo_core.storage_s3 import forget as forget_clients


@contextlib.contextmanager
def credentials(block: str | None) -> Iterator[None]:
    """Have the variables of a block in the environment inside the `with`; nothing changes when there is none.

    Raises RecipeError, without any value, for a block that is not there or holds something else.
    """
    if block is None:
        yield
        return
    values = _variables(block)
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    forget_clients()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        forget_clients()


def _variables(block: str) -> dict[str, str]:
    try:
        secret: Any = Secret.load(block)
    except ValueError as error:
        raise RecipeError(
            f"credentials_block {block!r}: the Prefect server has no Secret block of that name; make one in the dashboard, or with "
            f'`Secret(value={{"AWS_ACCESS_KEY_ID": ...}}).save({block!r})`'
        ) from error
    value = secret.get()
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, dict) or not value:
        raise RecipeError(
            f'credentials_block {block!r}: its value is no JSON object; give {{"AWS_ACCESS_KEY_ID": "...", "AWS_SECRET_ACCESS_KEY": "..."}}'
        )
    for name, one in value.items():
        if not str(name).startswith("AWS_") or not isinstance(one, str):
            raise RecipeError(f"credentials_block {block!r}: {name!r} is no variable AWS_... with a text as its value")
    return {str(name): str(one) for name, one in value.items()}
