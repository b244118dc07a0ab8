"""The short form of `python -m tests.endurance`: a few kills of the real chain on S3 with faults change no byte."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.endurance import runs
from tests.endurance.audit import differences
from tests.endurance.setting import BUCKET, READ_TIMEOUT, Setting, write_recipe
from tests.fault_proxy import OFTEN, FaultProxy
from tests.flows.conftest import Services
from tests.s3_server import S3Server


@pytest.mark.s3
@pytest.mark.timeout(3600)
def test_kills_on_a_faulty_store_change_no_byte(running_services: Services, s3: S3Server, tmp_path: Path) -> None:
    s3.client().create_bucket(Bucket=BUCKET)
    with FaultProxy(s3.endpoint, seed=3, stall_seconds=READ_TIMEOUT + 1) as proxy:
        proxy.rates = {fault: rate / 2 for fault, rate in OFTEN.items()}
        setting = Setting(
            folder=tmp_path,
            services=running_services,
            server=s3,
            proxy=proxy,
            recipe=write_recipe(tmp_path, 250_000),
        )
        expected, span = runs.undisturbed(setting, "local", 2, "reference")
        assert not expected.problems and expected.audit is not None and len(expected.audit.digests) > 40
        run = runs.killed(setting, "s3-faults", 2, "killed", span, random.Random(3), most=3)
        assert run.kills and not run.problems, run.problems
        assert run.audit is not None and not differences(run.audit.digests, expected.audit.digests)
        assert len([fault for fault, times in proxy.counts.items() if times]) >= 4
        assert run.audit.manifests == expected.audit.manifests and not setting.groups
