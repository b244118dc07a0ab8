"""The small corpus as an export, made once for the tests of this folder that look at it."""

from __future__ import annotations

from pathlib import Path

import pytest

from olmo_core.dolma_export.export import export_dolma
from olmo_core.workers import Workers
from tests.small_corpus import Run


@pytest.fixture(scope="session")
def exported(small: Run, workers: Workers, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus, exported. Tests may not change it."""
    folder = tmp_path_factory.mktemp("export") / "dolma"
    done = export_dolma(small.store, "small", str(folder), workers)
    assert (len(done.found), done.removed) == (0, ())
    return folder
