"""Fixtures of the tests about reports."""

from __future__ import annotations

import pytest

from olmo_core.workers import Workers
from tests.report.odd_corpus import OddCorpus, build_odd_corpus
from tests.report.whole_store import Whole, build_whole
from tests.small_corpus import Run


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> OddCorpus:
    """The corpus that tries to break the page, built once."""
    return build_odd_corpus(tmp_path_factory.mktemp("odd"), workers)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, small: Run) -> Whole:
    """The store with the whole chain in it, built once; tests may not change it."""
    return build_whole(tmp_path_factory.mktemp("whole"), small)
