"""Fixtures of the model's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from olmo_core import assets
from olmo_core.errors import AssetError


@pytest.fixture(scope="session")
def tokenizer() -> Path:
    """The OLMo tokenizer's file; tests that need it are skipped, with a reason, where it cannot be had."""
    try:
        return assets.fetch("olmo-tokenizer")
    except AssetError as error:
        pytest.skip(f"no tokenizer: {error}")
