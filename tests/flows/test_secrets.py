"""Credentials, through runs that go well and runs that fail, on a real S3 server and a real Prefect server: seen nowhere.

The runs' credentials come from a Prefect block and belong to a user of their own: those of the worker's environment are
not let into the bucket, so a run that goes well has used the block, in its worker processes too.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from prefect.blocks.system import Secret

from olmo_core.errors import RecipeError
from olmo_core.storage import Storage
from olmo_core.workers import Workers
from tasks.credentials import credentials
from tests.flows.conftest import ROOT, Services, done
from tests.flows.in_sight import KEY, SECRET, SEEN, WRONG, places_that_show_it
from tests.pickles import is_pickle, pickles
from tests.ports import free_port
from tests.s3_server import S3Server
from tests.small_corpus import passages, record, write_jsonl


@pytest.fixture
def own_bucket(s3: S3Server) -> tuple[str, Any]:
    """A bucket of the user with these keys, and his client."""
    s3.add_user("of-the-block", KEY, SECRET)
    session = boto3.session.Session(aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name="us-east-1")
    client = session.client("s3", endpoint_url=s3.endpoint)
    name = f"secrets-{uuid.uuid4()}"
    client.create_bucket(Bucket=name)
    return name, client


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "web" / "a.jsonl.gz", [record(f"d{n}", text) for n, text in enumerate(passages()[:30])])
    read = {"kind": "dolma-jsonl", "name": "web", "paths": [f"{tmp_path}/web/*"]}
    path = tmp_path / "secrets.yaml"
    body = {"name": "secrets", "content": {"kind": "lexicon"}, "sources": [{"read": read}]}
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return path


def start(services: Services, recipe: Path, **resources: Any) -> tuple[str, subprocess.CompletedProcess[str]]:
    """Run the deployment to its end; returns the flow run's state message and the command's outcome."""
    words = [f"recipe={json.dumps(str(recipe))}", f"resources={json.dumps({'workers': 1, **resources})}"]
    options = [word for one in words for word in ("-p", one)]
    process = services.prefect("deployment", "run", "build-dolma", "--watch", *options, timeout=800)
    found = re.search(r"UUID: ([0-9a-f-]{36})", process.stdout)
    return (str(services.run(found.group(1))["state"]["message"]) if found else ""), process


@pytest.mark.s3
@pytest.mark.timeout(1800)
def test_a_block_gives_the_credentials_and_nothing_shows_them(
    running_services: Services, own_bucket: tuple[str, Any], recipe: Path
) -> None:
    bucket, client = own_bucket
    store = f"s3://{bucket}/store"
    said = []

    running_services.save_block("right", {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET})
    message, process = start(running_services, recipe, store=store, credentials_block="right")
    said += [message, done(process), process.stderr]
    keys = [
        one["Key"]
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        for one in page["Contents"]
    ]
    assert sum(key.endswith("manifest.json") for key in keys) == 14
    for key in keys:
        raw = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert not SEEN.search(raw) and not is_pickle(raw), key

    message, process = start(running_services, recipe, store=store)
    assert process.returncode == 1 and "refuses the credentials" in message, "without the block the bucket is closed"
    said += [message, process.stdout, process.stderr]

    running_services.save_block("wrong", json.dumps({"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": WRONG}))
    message, process = start(running_services, recipe, store=store, credentials_block="wrong")
    assert process.returncode == 1 and "refuses the credentials" in message
    said += [message, process.stdout, process.stderr]

    message, process = start(running_services, recipe, store=f"s3://{KEY}:{SECRET}@{bucket}/store")
    # Prefect's own command repeats what it was given, on the terminal of who gave it; the server keeps nothing of it.
    assert process.returncode == 1 and not message and "Validation failed for field 'resources.store'" in process.stdout

    assert not SEEN.search("\n".join(said).encode())
    assert places_that_show_it(running_services.home) == []
    # Prefect keeps results, and what a run failed with, as pickles unless it is told otherwise: here the latter only, as JSON.
    assert pickles(running_services.home / "prefect") == []
    kept = [json.loads(path.read_bytes()) for path in (running_services.home / "prefect" / "storage").glob("*")]
    assert all(set(one) == {"__exc_type__", "message"} for one in kept), kept


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "no Secret block of that name"),
        (SECRET, "is no JSON object"),
        ({}, "is no JSON object"),
        ({"PATH": SECRET}, "'PATH' is no variable AWS_"),
        ({"AWS_ACCESS_KEY_ID": 5}, "'AWS_ACCESS_KEY_ID' is no variable AWS_... with a text"),
    ],
)
def test_blocks_that_cannot_be_used(value: Any, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Secret[Any]:
        if value is None:
            raise ValueError("Unable to find block document")
        return Secret(value=value)

    monkeypatch.setattr(Secret, "load", load)
    before = dict(os.environ)
    with pytest.raises(RecipeError, match=error) as caught, credentials("a-block"):
        pass
    assert not SEEN.search(str(caught.value).encode()) and dict(os.environ) == before


def test_the_environment_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """And worker processes have it though their fork server began before."""
    monkeypatch.setattr(Secret, "load", lambda name: Secret(value=json.dumps({"AWS_ACCESS_KEY_ID": KEY})))
    monkeypatch.setenv("AWS_PROFILE", "x")
    before = dict(os.environ)
    for block, expected in ((None, os.environ.get("AWS_ACCESS_KEY_ID")), ("a-block", KEY)):
        with credentials(block), Workers(1) as workers:
            assert [told for _, told in workers.map(os.getenv, ["AWS_ACCESS_KEY_ID"], str)] == [expected]
    assert dict(os.environ) == before


class Refusing(http.server.BaseHTTPRequestHandler):
    """A proxy that wants another password."""

    def _refuse(self) -> None:
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do_CONNECT = _refuse

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def refusing_proxy() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()


@pytest.mark.s3
@pytest.mark.parametrize("fault", ["wrong secret", "no server", "no proxy", "proxy refuses", "https proxy", "address"])
def test_commands_fail_without_telling(
    s3: S3Server, bucket: str, refusing_proxy: int, tmp_path: Path, fault: str
) -> None:
    """Reading, writing and source listings, each in a process of its own; a traceback would be in its error stream."""
    Storage(f"s3://{bucket}/store").put("refs/x", b"")
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    environment |= {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": WRONG,
        "AWS_MAX_ATTEMPTS": "1",
        "OLMO_S3_ATTEMPTS": "1",
    }
    environment |= {"OLMO_S3_CONNECT_TIMEOUT": "2", "OLMO_S3_READ_TIMEOUT": "2"}
    environment |= {"OLMO_HOME": str(tmp_path / "home"), "NO_PROXY": "", "no_proxy": ""}
    proxy = f"http://{KEY}:{WRONG}@127.0.0.1:{refusing_proxy if fault != 'no proxy' else free_port()}"
    changes = {
        "no server": {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"},
        "no proxy": {"HTTP_PROXY": proxy, "http_proxy": proxy},
        "proxy refuses": {"HTTP_PROXY": proxy, "http_proxy": proxy},
        "https proxy": {"HTTPS_PROXY": proxy, "https_proxy": proxy, "AWS_ENDPOINT_URL": "https://127.0.0.1:1"},
    }
    environment |= changes.get(fault, {})
    code = f"""
import sys, traceback
from olmo_core import storage
from olmo_core.documents.listing import list_files
from olmo_core.documents.streams import HashedFile
from olmo_core.errors import OlmoError
from olmo_core.redaction import redacted
where = "s3://{f"{KEY}:{WRONG}@" if fault == "address" else ""}{bucket}"
for action in (
    lambda: storage.Storage(where + "/store").put("x", b"1"),
    lambda: storage.Storage(where + "/store").read("x"),
    lambda: list(storage.Storage(where + "/store").walk("")),
    lambda: list_files("web", (where + "/a/*",), None),
):
    try:
        action()
    except OlmoError as error:
        print("told:", type(error).__name__, error)
        print(redacted("".join(traceback.format_exception(error))))
"""
    process = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("told:") == 4
    assert not SEEN.search((process.stdout + process.stderr).encode()), process.stdout + process.stderr
    if fault in ("wrong secret", "address"):
        words = ["-m", "flows.command.main", "artifacts", "ls", "--store"]
        where = f"s3://{KEY}:{WRONG}@{bucket}/store" if fault == "address" else f"s3://{bucket}/store"
        command = subprocess.run(
            [sys.executable, *words, where],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert command.returncode == 1 and "Traceback" not in command.stderr
        assert not SEEN.search((command.stdout + command.stderr).encode())
