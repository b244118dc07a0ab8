"""The fault proxy itself: it passes on what it gets, and does what it says, as often as it says."""

from __future__ import annotations

import os

import pytest
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from tests.fault_proxy import OFTEN, Fault, FaultProxy
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server

pytestmark = pytest.mark.s3


def client(endpoint: str, patience: float = 60) -> object:
    """A client that asks once."""
    import boto3

    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1")
    config = Config(read_timeout=patience, retries={"total_max_attempts": 1})
    return session.client("s3", endpoint_url=endpoint, config=config)


def test_without_faults_nothing_changes(s3: S3Server, bucket: str, faults: FaultProxy) -> None:
    """Large and small, listed in chunks, asked by HEAD; signatures hold."""
    through = client(faults.endpoint)
    data = os.urandom(3_000_000)
    for key, body in (("a b/日本", data), ("empty", b"")):
        through.put_object(Bucket=bucket, Key=key, Body=body)  # type: ignore[attr-defined]
        assert s3.client().get_object(Bucket=bucket, Key=key)["Body"].read() == body
        assert through.get_object(Bucket=bucket, Key=key)["Body"].read() == body  # type: ignore[attr-defined]
        assert through.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(body)  # type: ignore[attr-defined]
    found = through.list_objects_v2(Bucket=bucket)["Contents"]  # type: ignore[attr-defined]
    assert [one["Key"] for one in found] == ["a b/日本", "empty"]
    assert sum(faults.requests.values()) == 7 and not faults.counts


@pytest.mark.parametrize("fault", Fault)
def test_each_fault_is_seen_and_counted(s3: S3Server, bucket: str, faults: FaultProxy, fault: Fault) -> None:
    """The client has an error each time; the server has the object where the fault says that it got the request."""
    patient = client(faults.endpoint)
    through = client(faults.endpoint, 1) if fault == Fault.STALL else patient
    faults.once(fault, "PUT", "/x", times=2)
    for _ in range(2):
        with pytest.raises((BotoCoreError, ClientError)) as caught:
            through.put_object(Bucket=bucket, Key="x", Body=bytes(300_000))  # type: ignore[attr-defined]
        assert (fault == Fault.SLOW_DOWN) == ("SlowDown" in str(caught.value)), caught.value
        assert (fault == Fault.STALL) == ("timeout" in str(caught.value).lower()), caught.value
    assert faults.counts == {fault: 2}
    took_effect = fault in (Fault.LOST_ANSWER, Fault.RESET_IN_ANSWER, Fault.STALL)
    assert ("Contents" in s3.client().list_objects_v2(Bucket=bucket)) == took_effect
    patient.put_object(Bucket=bucket, Key="x", Body=b"1")  # type: ignore[attr-defined]
    faults.once(fault, "GET", "/x")
    if fault != Fault.LOST_ANSWER:
        with pytest.raises((BotoCoreError, ClientError, OSError)):
            through.get_object(Bucket=bucket, Key="x")["Body"].read()  # type: ignore[attr-defined]
    faults.clear()
    assert patient.get_object(Bucket=bucket, Key="x")["Body"].read() == b"1"  # type: ignore[attr-defined]


def test_the_seed_decides_what_happens(s3: S3Server, bucket: str) -> None:
    """The same seed does the same to the same requests, another seed something else; rates are kept."""

    def happened(seed: int) -> list[str]:
        with FaultProxy(s3.endpoint, seed=seed, stall_seconds=0) as proxy:
            proxy.rates = {**OFTEN, Fault.RESET_BEFORE: 0.3, Fault.STALL: 0.0}
            through, seen = client(proxy.endpoint), []
            for n in range(60):
                before = dict(proxy.counts)
                try:
                    through.put_object(Bucket=bucket, Key=f"{n}", Body=b"1")  # type: ignore[attr-defined]
                    seen.append("")
                except (BotoCoreError, ClientError):
                    seen.append(next(str(f) for f in Fault if proxy.counts[f] != before.get(f, 0)))
            assert sum(proxy.counts.values()) == sum(map(bool, seen))
            return seen

    first = happened(1)
    assert happened(1) == first != happened(2)
    assert 8 <= first.count(str(Fault.RESET_BEFORE)) <= 32
