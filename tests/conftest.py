"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ("tests.small_corpus", "tests.s3_server")
"""Fixtures `workers` and `small`: the whole chain over a small corpus, built once, only when a test asks for it.
Fixtures `s3` and `bucket`: a real S3 server, started once, only when a test asks for it."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real inputs beside the checkout; tests that need it are skipped, with a reason, where it is not."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED}: this test needs the real inputs that lie beside the project's checkout")
    return SHARED
