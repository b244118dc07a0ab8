"""Fixtures of the tests about reports."""

from __future__ import annotations

import shutil

import pytest

from olmo_core.workers import Workers
from tests.report.chromium import NAMES
from tests.report.odd_corpus import OddCorpus, build_odd_corpus
from tests.report.whole_store import Whole, build_whole
from tests.small_corpus import Run


@pytest.fixture(scope="session")
def browser() -> str:
    """A Chromium; the tests without one (test_page.py) look at the same page as text."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: this test needs one of {', '.join(NAMES)}")
    return found


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> OddCorpus:
    """The corpus that tries to break the page, built once."""
    return build_odd_corpus(tmp_path_factory.mktemp("odd"), workers)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, small: Run) -> Whole:
    """The store with the whole chain in it, built once; tests may not change it."""
    return build_whole(tmp_path_factory.mktemp("whole"), small)
