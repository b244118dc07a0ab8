"""Repair in a bucket of a real S3 server: the tests of test_repair.py again."""

from __future__ import annotations

import pytest

from olmo_core.artifacts.store import ArtifactStore
from tests.artifacts.test_repair import (  # noqa: F401 - collected here, with this module's fixture `store`
    test_a_shared_object_is_repaired_once_for_all,
    test_manifests_that_are_missing_or_unreadable,
    test_presence_and_size_only,
    test_what_comes_out_differently_is_not_put_back,
)

pytestmark = pytest.mark.s3


@pytest.fixture
def store(bucket: str) -> ArtifactStore:
    return ArtifactStore(f"s3://{bucket}/some/store")
