"""Fixtures shared by all tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.report.chromium import NAMES

pytest_plugins = ("tests.small_corpus", "tests.s3_server")
"""Fixtures `workers` and `small`: the whole chain over a small corpus, built once, only when a test asks for it.
Fixtures `s3` and `bucket`: a real S3 server, started once, only when a test asks for it."""

# The same examples each time, and no limit of 0.2 s for one: neither luck nor a busy machine decides. Others are looked for with
# `pytest --hypothesis-profile=default`.
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real inputs beside the checkout; tests that need it are skipped, with a reason, where it is not."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED}: this test needs the real inputs that lie beside the project's checkout")
    return SHARED


@pytest.fixture(scope="session")
def browser() -> str:
    """A Chromium; pages are looked at as text everywhere (tests/report/test_page.py)."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: this test needs one of {', '.join(NAMES)}")
    return found


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A long value does not name a test; bytes might besides be others in each process, as gzip writes the time."""
    return f"{argname}-of-{len(val)}" if isinstance(val, (str, bytes)) and len(val) > 80 else None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a pytest-xdist that does not keep groups together: each process would start servers and services of its own."""
    if getattr(session.config.option, "loadgroup", False):
        for item in session.items:
            marker = item.get_closest_marker("xdist_group")
            if marker is not None and not item.nodeid.endswith(f"@{marker.args[0]}"):
                session.shouldfail = f"{item.nodeid} is not kept with its group: install with -c constraints.txt"
