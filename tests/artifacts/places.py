"""Where the contract of artifacts is tested: a folder, a bucket, and a bucket behind a proxy that does damage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

import pytest

from olmo_core.artifacts.store import ArtifactStore
from olmo_core.workers import Workers
from tests.fault_proxy import OFTEN

T = TypeVar("T")
BUCKETS = [pytest.param(kind, marks=pytest.mark.s3) for kind in ("s3", "s3-faults")]
PLACES = ["folder", *BUCKETS]


class Threads(Workers):
    """Does the jobs in threads of this process, whose S3 client goes through the proxy: worker processes keep the
    environment of the first pool, and with it the way to the server itself.
    """

    def map(
        self,
        function: Callable[[Any], T],
        jobs: Sequence[Any],
        name: Callable[[Any], str],
        *,
        first_alone: bool = False,
    ) -> Iterator[tuple[Any, T]]:
        """Yield results as jobs end."""
        with ThreadPoolExecutor(self.count) as pool:
            asked = {pool.submit(function, job): job for job in jobs}
            for future in as_completed(asked):
                yield asked[future], future.result()


def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    """Return a new store at the place that the fixture's parameter names."""
    if request.param == "s3-faults":
        request.getfixturevalue("faults").rates = OFTEN
    if request.param.startswith("s3"):
        return ArtifactStore(f"s3://{request.getfixturevalue('bucket')}/some/store")
    return ArtifactStore(str(tmp_path / "store"))
