"""The server's password, on the real services of the session, which listen beyond loopback and so have one.

127.0.0.2 stands for this machine's address as others see it: a server on 127.0.0.1 alone does not answer there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import prefect
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from flows.command import password, services
from flows.command.project import Project, State
from flows.command.server_api import ServerApi, UnauthorizedError
from olmo_core import processes
from tests.flows.conftest import ROOT, Place, Services, done, wait_until
from tests.flows.in_sight import content
from tests.ports import free_port

WRONG = "admin:not-the-password"
SOCKETS = {
    "/events/in",
    "/events/out",
    "/logs/out",
    "/task_runs/subscriptions/scheduled",
    "/work_pools/cpu/workers/connect",
}
OPEN = {("get", "/api/health"), ("get", "/api/ready")}
"""What answers without a password: `true`, for programs that watch whether the server lives."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in (password.SERVER, password.CLIENT):
        monkeypatch.delenv(name, raising=False)
    return Project(directory=ROOT, home=tmp_path / "olmo")


def secret_of(services: Services) -> str:
    kept = password.stored(Project(directory=ROOT, home=services.home))
    assert kept is not None
    return kept


def status(url: str, method: str = "GET", secret: str | None = None, **headers: str) -> int:
    """The status with which the server answers a request from elsewhere."""
    if secret is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(secret.encode()).decode()
    body = b"{}" if method in ("POST", "PUT", "PATCH") else None
    request = urllib.request.Request(url, method=method, data=body, headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=300) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_every_path_wants_the_password(running_services: Services) -> None:
    """All that the server's own description lists, without a password and with a wrong one."""
    server = f"http://127.0.0.2:{running_services.port}"
    headers = {"Authorization": "Basic " + base64.b64encode(secret_of(running_services).encode()).decode()}
    request = urllib.request.Request(f"{server}/api/openapi.json", headers=headers)
    with urllib.request.urlopen(request, timeout=300) as answer:
        described = json.load(answer)["paths"]
    token, asked = token_of(running_services), 0
    for path, methods in described.items():
        whole = re.sub(r"\{[^}]*\}", "00000000-0000-0000-0000-000000000001", path)
        whole = whole if whole.startswith("/api") else f"/api{whole}"
        for method in methods:
            expected = {200} if (method, whole) in OPEN else {401}
            found = {status(server + whole, method.upper(), one, **token) for one in (None, WRONG)}
            assert found == expected, f"{method} {whole}: {found}"
            asked += 1
    assert asked > 150
    for trick in ("/api//health", "/api/health/", "/api/flows/../health/x", "/api/openapi.json", "/api/docs"):
        assert status(server + trick) in (401, 404), trick


def token_of(services: Services) -> dict[str, str]:
    """What the server wants with every change, so that no page of another origin can make one."""
    token = services.api.request("GET", "/csrf-token?client=me")["token"]
    return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "me", "Content-Type": "application/json"}


def test_changes_want_password_and_token(running_services: Services) -> None:
    """Each alone is not enough; a page of another origin gets neither, nor an answer that it may read."""
    flows = f"{running_services.api.address}/flows/filter"
    secret = secret_of(running_services)
    given = token_of(running_services)
    assert status(flows, "POST", secret, **given) == 200
    assert status(flows, "POST", None, **given) == 401
    assert status(flows, "POST", WRONG, **given) == 401
    assert status(flows, "POST", secret) == 403
    elsewhere = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "POST"}
    assert status(flows, "OPTIONS", **elsewhere) == 400


@pytest.mark.parametrize("path", sorted(SOCKETS))
def test_websockets_want_the_password(running_services: Services, path: str) -> None:
    server = f"ws://127.0.0.2:{running_services.port}/api{path}"
    with pytest.raises((InvalidStatus, ConnectionClosed)):
        with connect(server, proxy=None, open_timeout=300) as socket:
            socket.recv(timeout=300)
    for token in (None, WRONG):
        with connect(server, subprotocols=["prefect"], proxy=None, open_timeout=300) as socket:  # type: ignore[list-item]
            socket.send(json.dumps({"type": "auth", "token": token}))
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=300)
    with connect(server, subprotocols=["prefect"], proxy=None, open_timeout=300) as socket:  # type: ignore[list-item]
        socket.send(json.dumps({"type": "auth", "token": secret_of(running_services)}))
        assert json.loads(socket.recv(timeout=300))["type"] == "auth_success"


def test_no_websocket_is_forgotten() -> None:
    """A new version of Prefect with one more fails here."""
    sources = (Path(prefect.__file__).parent / "server" / "api").glob("*.py")
    assert sum(source.read_text(encoding="utf-8").count("router.websocket(") for source in sources) == len(SOCKETS)


def test_a_worker_elsewhere_runs_with_address_and_password(running_services: Services, tmp_path: Path) -> None:
    """As docs/operating.md says it: a state folder of its own, and of the server only these two variables."""
    api, pool = running_services.api, "elsewhere"
    api.request("POST", "/work_pools/", {"name": pool, "type": "process", "base_job_template": {}})
    known = api.deployments()["probe/probe"]
    copied = {name: known[name] for name in ("flow_id", "entrypoint", "path", "pull_steps")}
    made = api.request("POST", "/deployments/", {**copied, "name": pool, "work_pool_name": pool})
    there = Place(
        home=tmp_path / "olmo",
        profiles=tmp_path / "profiles.toml",
        extra={
            "PREFECT_API_URL": f"http://127.0.0.2:{running_services.port}/api",
            password.CLIENT: secret_of(running_services),
            "NO_PROXY": "*",
        },
    )
    there.home.mkdir()
    run = api.request("POST", f"/deployments/{made['id']}/create_flow_run", {"parameters": {"word": "far"}})
    done(there.prefect("worker", "start", "--pool", pool, "--type", "process", "--run-once"))
    state = wait_until(
        lambda: (one := running_services.run(run["id"])["state"])["type"] in ("COMPLETED", "FAILED", "CRASHED") and one,
        seconds=600,
        what="the run of the worker elsewhere",
    )
    assert state["type"] == "COMPLETED", state
    assert json.loads((there.home / "probe.json").read_text(encoding="utf-8"))["word"] == "far"

    wrong = Place(home=there.home, profiles=there.profiles, extra={**there.extra, password.CLIENT: WRONG})
    refused = wrong.prefect("worker", "start", "--pool", pool, "--type", "process", "--run-once")
    assert refused.returncode != 0 and "401" in refused.stdout + refused.stderr


def test_a_wrong_password_is_named_with_its_remedy(running_services: Services) -> None:
    """By every command that talks to the server, Prefect's `deployment run` among them."""
    wrong = Place(home=running_services.home, profiles=running_services.profiles, extra={password.CLIENT: WRONG})
    for command in (["status"], ["run", "build-dolma"]):
        process = wrong.olmo(*command)
        assert process.returncode == 1, process.stdout
        assert f"answered 401: it has another password than {password.CLIENT} says" in process.stderr
    process = wrong.prefect("deployment", "run", "probe")
    assert process.returncode == 1 and f"another password than {password.CLIENT} says" in process.stderr
    changed = Place(home=running_services.home, profiles=running_services.profiles, extra={password.SERVER: WRONG})
    process = changed.olmo("up")
    assert process.returncode == 1 and "`olmo down`, then up, to change it" in process.stderr
    assert "Traceback" not in process.stderr


def test_the_password_is_shown_nowhere(running_services: Services) -> None:
    """In no file that another user may read, no log, no command line, nothing that the commands print."""
    secret = secret_of(running_services)
    word = secret.partition(":")[2]
    kept = running_services.home / "password"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600 and len(word) > 20
    assert stat.S_IMODE(running_services.profiles.stat().st_mode) == 0o600
    holding = [
        file
        for file in running_services.home.rglob("*")
        if file.is_file() and word.encode() in content(file) and file != kept
    ]
    assert holding == []
    told = (running_services.home.parent / "up.txt").read_text(encoding="utf-8")
    assert f"password    kept in {kept}, for you only" in told
    told += done(running_services.olmo("status")) + done(running_services.prefect("config", "view"))
    assert word not in told
    for process in processes.carrying(**{processes.MARK: str(running_services.home)}):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            assert word.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
            assert stat.S_IMODE(Path(f"/proc/{process.pid}/environ").stat().st_mode) == 0o400


def test_what_is_taken_for_the_password(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """None on loopback, a random one beyond, that of the variable if set; kept until its file is deleted."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)  # commands that other tests have run in this process set it
    assert password.settle(project, "127.0.0.1") is False and password.stored(project) is None
    assert password.settle(project, "0.0.0.0") is True
    first = password.stored(project)
    assert first is not None and first.startswith("admin:")
    assert password.settle(project, "::") is False and password.settle(project, "localhost") is False
    assert password.stored(project) == first, "back on loopback it stays"
    monkeypatch.setenv(password.SERVER, "me:chosen-by-me")
    assert password.settle(project, "0.0.0.0") is True and password.stored(project) == "me:chosen-by-me"
    assert password.of_commands(project) == "me:chosen-by-me"
    monkeypatch.setenv(password.CLIENT, "me:of-this-server")
    assert password.of_commands(project) == "me:of-this-server"
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere:4200/api")
    assert password.of_commands(project) == "me:chosen-by-me", "the variable's is for the server elsewhere"
    there = ServerApi.of(project, elsewhere=True)
    assert there.run_page("1") == "http://elsewhere:4200/v2/runs/flow-run/1"
    monkeypatch.delenv("PREFECT_API_URL")
    monkeypatch.delenv(password.CLIENT)
    monkeypatch.delenv(password.SERVER)
    password.file_of(project).unlink()
    assert password.settle(project, "0.0.0.0") is True and password.stored(project) not in (first, "me:chosen-by-me")


@pytest.mark.parametrize(
    "value", ["no-colon-in-it", "admin:short", "admin:with a space", "admin:gehört-nicht", ":nobody-there"]
)
def test_passwords_that_cannot_serve(project: Project, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(password.SERVER, value)
    with pytest.raises(password.PasswordError, match=password.SERVER) as caught:
        password.settle(project, "0.0.0.0")
    assert value not in str(caught.value) and password.stored(project) is None


def test_a_file_that_others_can_read_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    password.settle(project, "0.0.0.0")
    password.file_of(project).chmod(0o644)
    with pytest.raises(password.PasswordError, match="can be read by others"):
        password.settle(project, "0.0.0.0")
    password.file_of(project).chmod(0o600)
    monkeypatch.setenv(password.CLIENT, WRONG)
    with pytest.raises(password.PasswordError, match=f"{password.CLIENT} is not the password"):
        password.settle(project, "0.0.0.0")


def test_no_server_beyond_loopback_without_a_password(project: Project) -> None:
    """Even if somebody calls it without having settled one."""
    with pytest.raises(services.ServiceError, match="no server without a password"):
        services.start_server(project, State(port=free_port(), host="0.0.0.0"))


@pytest.mark.parametrize("host", ["no.such.name.invalid", "203.0.113.7"])
def test_hosts_that_are_not_here(place: Place, host: str) -> None:
    failed = Place(home=place.home, profiles=place.profiles, extra={"OLMO_HOST": host}).olmo("up")
    assert failed.returncode == 1 and f"{host}" in failed.stderr and "OLMO_HOST" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_server_that_wants_a_password_is_asked_with_none(running_services: Services) -> None:
    with pytest.raises(UnauthorizedError, match="it wants a password: set PREFECT_API_AUTH_STRING"):
        ServerApi(running_services.port).request("GET", "/admin/version")


def test_a_server_elsewhere_is_not_said_to_be_this_project_s(place: Place, running_services: Services) -> None:
    """`olmo deploy` with no password and with a wrong one: the variable is the remedy, not a state folder here."""
    for extra, says in ({}, "wants a password"), ({password.CLIENT: WRONG}, "has another password than"):
        there = {"PREFECT_API_URL": running_services.api.address, **extra}
        failed = Place(home=place.home, profiles=place.profiles, extra=there).olmo("deploy")
        assert failed.returncode == 1 and f"answered 401: it {says}" in failed.stderr
        assert f"set {password.CLIENT}=user:password to that" in failed.stderr
        assert "olmo down" not in failed.stderr and "folder" not in failed.stderr


def test_profile_elsewhere_knows_the_password(running_services: Services, tmp_path: Path) -> None:
    """`prefect --profile olmo` in any directory; without it, and without the variable, the server says 401."""
    words = ["--profile", "olmo", "deployment", "inspect", "probe/probe"]
    done(running_services.prefect(*words, directory=tmp_path))
    environment: dict[str, Any] = {**os.environ, **running_services.client()}
    del environment[password.CLIENT]
    process = subprocess.run(
        [str(Path(sys.executable).with_name("prefect")), "deployment", "ls"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1 and "401" in process.stdout + process.stderr
