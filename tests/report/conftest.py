"""Fixtures of the tests about reports."""

from __future__ import annotations

import pytest

from olmo_core.workers import Workers
from tests.report.odd_corpus import OddCorpus, build_odd_corpus


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory, workers: Workers) -> OddCorpus:
    """The corpus that tries to break the page, built once."""
    return build_odd_corpus(tmp_path_factory.mktemp("odd"), workers)
