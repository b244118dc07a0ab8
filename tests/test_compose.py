"""deployments/compose without Docker: what its image is made of and what its services run, natively, on real servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.command import password, services
from flows.command.project import Project, State
from flows.command.server_api import ServerApi, UnauthorizedError
from olmo_core import assets, kernels
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.storage import Storage
from tests import postgres_server
from tests.flows.conftest import wait_until
from tests.ports import free_port
from tests.postgres_server import PostgresServer
from tests.s3_server import S3Server
from tests.small_corpus import passages, record, write_jsonl

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "deployments" / "compose"
SECRET = "admin:recognisable-password-0815"
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?P<rest>[^}]*)\}")


BOTH = {
    "DO_NOT_TRACK",
    "PREFECT_LOGGING_COLORS",
    "PREFECT_PLUGINS_ENABLED",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER",
}
NEEDS = {
    "server.sh": BOTH
    | {
        "PREFECT_SERVER_ANALYTICS_ENABLED",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT",
        "PREFECT_SERVER_UI_API_URL",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS",
    },
    "worker.sh": BOTH | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "PREFECT_WORKER_QUERY_SECONDS"},
}
"""What each script sets as `olmo up` does: the server's own, and what flow runs and their worker need."""


def composed() -> dict[str, Any]:
    made: dict[str, Any] = yaml.safe_load((HERE / "compose.yaml").read_text(encoding="utf-8"))
    return made


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in order."""
    lines = (HERE / "Dockerfile").read_text(encoding="utf-8").splitlines()
    pairs = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in pairs]


def test_no_secret_is_in_the_file_and_none_has_a_default() -> None:
    """Each comes from .env, and compose refuses to start without it."""
    text = (HERE / "compose.yaml").read_text(encoding="utf-8")
    found = {match["name"]: match["rest"] for match in VARIABLE.finditer(text)}
    secrets = {name for name in found if "PASSWORD" in name}
    assert secrets == {"OLMO_PASSWORD", "POSTGRES_PASSWORD", "STORAGE_PASSWORD"}
    for match in VARIABLE.finditer(text):
        assert match["rest"].startswith(":?" if match["name"] in secrets else ":-"), match[0]
    example = (HERE / ".env.example").read_text(encoding="utf-8")
    assert set(re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)) == set(found)
    assert all(f"\n{name}=\n" in example for name in secrets), "the example has no passwords that somebody might keep"
    for name, service in composed()["services"].items():
        for key, value in service.get("environment", {}).items():
            assert not re.search("PASSWORD|SECRET|AUTH", key) or "${" in value, (name, key)


def test_services_are_pinned_watched_and_not_root() -> None:
    made = composed()["services"]
    assert {"postgres", "storage", "server", "deploy", "worker-cpu", "worker-gpu"} <= set(made)
    for name, service in made.items():
        assert re.search(r":(RELEASE\.)?\d[\w.-]+$", service["image"]), f"{name}: its image has no version"
        assert service["restart"] in ("unless-stopped", "no")
        for other, condition in service.get("depends_on", {}).items():
            assert "healthcheck" in made[other] or condition["condition"] == "service_completed_successfully"
        for volume in service.get("volumes", []):
            assert volume.partition(":")[0] in composed()["volumes"] or volume.startswith("${OLMO_DATA")
    assert made["worker-gpu"]["profiles"] == ["gpu"]
    assert made["server"]["ports"] == ["${OLMO_HOST:-127.0.0.1}:${OLMO_PORT:-4200}:4200"]
    assert [service for service in made.values() if "ports" in service] == [made["server"]], "nothing else is let out"
    words = [word for word, _ in instructions()]
    assert ("USER", "olmo") in instructions() and words.index("USER") < words.index("COPY")
    secret = made["server"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"]
    assert secret.startswith(f"{password.USER}:${{OLMO_PASSWORD:?")
    for name in ("deploy", "worker-cpu", "worker-training", "worker-gpu"):
        assert made[name]["environment"]["PREFECT_API_AUTH_STRING"] == secret, name
    for service in made.values():
        for word in service.get("command", []):
            if word.startswith("/opt/olmo-flows/"):
                assert (ROOT / word.removeprefix("/opt/olmo-flows/")).is_file()


@pytest.mark.parametrize("script", ["server.sh", "deploy.sh", "worker.sh"])
def test_scripts_say_what_is_missing(script: str) -> None:
    """And start nothing: no server without a password."""
    environment = {"PATH": os.environ["PATH"], "OLMO_HOME": "/nowhere", "OLMO_PROJECT": "/nowhere"}
    done = subprocess.run(["sh", HERE / script, "cpu"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and re.search("PREFECT_(API_URL|SERVER_API_AUTH_STRING): ", done.stderr)
    if script == "server.sh":
        environment |= {"PREFECT_SERVER_API_AUTH_STRING": "admin:", "POSTGRES_PASSWORD": "x"}
        done = subprocess.run(["sh", HERE / script], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and "8 characters at least" in done.stderr


def test_settings_are_those_of_olmo_up(tmp_path: Path) -> None:
    """Each script has all that its service needs, but for what is this machine's: addresses, the state folder, SQLite's patience."""
    ours = services.environment(Project(directory=ROOT, home=tmp_path), State())
    for script, needs in NEEDS.items():
        text = (HERE / script).read_text(encoding="utf-8")
        exported = dict(re.findall(r"^export ([A-Z_]+)=([^\s\"$]+)$", text, re.MULTILINE))
        assert exported == {name: ours[name] for name in needs}, script
    own = {"PREFECT_HOME", "PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_CLI_COLORS", "PREFECT_SERVER_DATABASE_TIMEOUT"}
    own |= {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS"}
    found = {name for name in ours if name.startswith(("PREFECT_", "DO_NOT"))}
    assert set().union(*NEEDS.values()) == {
        name for name in found - own if not name.startswith("PREFECT_LOGGING_") or name in BOTH
    }


def test_caches_are_in_the_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    """Assets, scores of evaluations, compiled kernels."""
    for name in ("OLMO_ASSETS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for word, rest in instructions():
        for name, value in (one.split("=", 1) for one in rest.split() if word == "ENV"):
            if name != "PATH":
                monkeypatch.setenv(name, value)
    assert ("VOLUME", volume := os.environ["OLMO_HOME"]) in instructions()
    for folder in (assets.cache_folder(), ScoringResources().scores_folder(), Path(kernels._cache_folder())):
        assert folder.is_relative_to(volume), folder


@pytest.mark.s3
def test_the_bucket_is_made_only_where_it_is_missing(s3: S3Server) -> None:
    """Where the region says; nothing is asked of other buckets; what cannot be is one line."""
    s3.add_user("stranger", "a-stranger", "another-secret-of-tests")

    def made(store: str, **changed: str) -> tuple[int, str, str]:
        environment = {**os.environ, **s3.environment, "OLMO_STORE": store, **changed}
        done = subprocess.run(
            [sys.executable, HERE / "bucket.py"], env=environment, capture_output=True, text=True, check=False
        )
        assert len(done.stderr.splitlines()) <= 1, done.stderr
        return done.returncode, done.stdout, done.stderr

    assert made("s3://first/store") == (0, "bucket      first made\n", "")
    assert made("s3://first/store") == (0, "", "")
    code, _, said = made(
        "s3://first/store", AWS_ACCESS_KEY_ID="a-stranger", AWS_SECRET_ACCESS_KEY="another-secret-of-tests"
    )
    assert code == 1 and "first: " in said and "403" in said
    code, _, said = made("s3://second/store", AWS_DEFAULT_REGION="eu-west-1")
    assert code == 1 and "LocationConstraint" in said, "the name of the region was given, and this server has it not"
    code, _, said = made("/data")
    assert code == 1 and "give s3://bucket/prefix" in said


@pytest.fixture
def image(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """What the Dockerfile makes, in a folder: its COPY and RUN, with this environment's packages instead of downloads."""
    opt, bin_folder = tmp_path / "opt" / "olmo-flows", tmp_path / "opt" / "venv"
    venv.create(bin_folder, with_pip=True)
    packages = next(bin_folder.glob("lib/python*/site-packages"))
    for own in (*packages.glob("setuptools*"), *packages.glob("*distutils*")):
        shutil.rmtree(own) if own.is_dir() else own.unlink()  # of Python 3.11, and too old
    (packages / "these.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "OLMO_"))}
    # pip reads `no` of this variable as "no build isolation"; what is not there is not fetched.
    environment |= {
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "no",
        "PATH": f"{bin_folder}/bin:{os.environ['PATH']}",
    }
    let_in = (HERE / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    ran = 0
    for word, rest in instructions():
        if word == "COPY":
            *sources, target = [one for one in rest.split() if not one.startswith("--")]
            for source in sources:
                assert f"!{source}" in let_in, f"{source} does not reach the build"
                to = opt / target / (source if target.endswith("./") else "")
                to.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / source, to)
        elif word == "RUN" and not rest.startswith("useradd"):
            command = rest.replace("/opt/", f"{tmp_path}/opt/")
            done = subprocess.run(
                ["sh", "-c", command], cwd=opt, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            ran += 1
        elif word == "ENV":
            for name, value in (one.split("=", 1) for one in rest.split()):
                value = value.replace("/opt/", f"{tmp_path}/opt/").replace("/var/", f"{tmp_path}/var/")
                environment[name] = value.replace("$PATH", environment["PATH"])
    assert ran == 1 and environment["OLMO_PROJECT"] == str(opt)
    return opt, environment


@contextlib.contextmanager
def running(name: str, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A service of compose.yaml: its command in the image that was made, ended as `docker compose stop` ends it."""
    words = [
        word.replace("/opt/olmo-flows", environment["OLMO_PROJECT"]) for word in composed()["services"][name]["command"]
    ]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_its_services_build_a_corpus(image: tuple[Path, dict[str, str]], s3: S3Server, tmp_path: Path) -> None:
    """PostgreSQL, server, bucket, deployments, a worker: build-dolma from the compose file's own commands, to Completed."""
    if why := postgres_server.missing():
        pytest.skip(why)
    _, environment = image
    del environment["XDG_CACHE_HOME"], environment["OLMO_ASSETS"]  # what is here already: nothing is fetched
    # The worker's is the checkout itself, not its copy: kernels are compiled once for each path, and that takes a minute.
    checkout = {"OLMO_PROJECT": str(ROOT)}
    port, bucket = free_port(), "composed"
    server = {**environment, "PREFECT_SERVER_API_AUTH_STRING": SECRET, "OLMO_HOST": "127.0.0.1", "OLMO_PORT": str(port)}
    client = {
        **environment, **s3.environment, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_API_AUTH_STRING": SECRET,
        "OLMO_STORE": f"s3://{bucket}/store",
    }  # fmt: skip
    write_jsonl(tmp_path / "web" / "a.jsonl", [record(f"d{n}", text) for n, text in enumerate(passages()[:30])])
    recipe = tmp_path / "composed.yaml"
    read = {"kind": "dolma-jsonl", "name": "web", "paths": [f"{tmp_path}/web/*"]}
    recipe.write_text(yaml.safe_dump({"name": "composed", "content": {"kind": "lexicon"}, "sources": [{"read": read}]}))
    api = ServerApi.at(client["PREFECT_API_URL"], password=SECRET, timeout=60)
    with contextlib.ExitStack() as started:
        database = started.enter_context(PostgresServer())
        process = started.enter_context(running("server", {**server, **database.environment}, tmp_path / "server.log"))
        wait_until(lambda: api.is_healthy() or process.poll() is not None, seconds=600, what="the server")
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        with pytest.raises(UnauthorizedError):
            ServerApi.at(client["PREFECT_API_URL"]).request("GET", "/admin/version")
        with running("deploy", client, tmp_path / "deploy.log") as once:
            assert once.wait(600) == 0, (tmp_path / "deploy.log").read_text()
        started.enter_context(running("worker-cpu", {**client, **checkout}, tmp_path / "worker.log"))
        # As docs/compose.md says it, from a shell in a checkout that knows nothing but address and password.
        command = (
            f"prefect deployment run build-dolma -p recipe={recipe} -p 'resources={{\"workers\": 1}}' && olmo watch"
        )
        shell = {name: value for name, value in client.items() if not name.startswith(("OLMO_", "AWS_"))}
        shell |= {"OLMO_HOME": str(tmp_path / "shell"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", command], cwd=ROOT, env=shell, capture_output=True, text=True, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0 and "composed-" in said, (said, (tmp_path / "worker.log").read_text())
        assert database.asked("select count(*) from flow_run") == "1"
        # The states of tasks reach the server as events, and are recorded after the run's own.
        counted = "select count(*) from task_run where state_type = 'COMPLETED'"
        wait_until(lambda: int(database.asked(counted)) >= 14, seconds=120, what="14 task runs in the database")
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                raw = line.read_bytes()
                assert SECRET.encode() not in raw and postgres_server.PASSWORD.encode() not in raw
    made = [path for path in Storage(client["OLMO_STORE"]).walk("") if "manifest.json" in str(path)]
    assert len(made) == 14
    logs = b"".join(log.read_bytes() for log in tmp_path.glob("*.log"))
    for word in (SECRET, postgres_server.PASSWORD, s3.environment["AWS_SECRET_ACCESS_KEY"]):
        assert word.encode() not in logs and json.dumps(word).encode() not in logs
