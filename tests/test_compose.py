"""deployments/compose without Docker: what its image is made of and what its services run, natively, on real servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.command import services
from flows.command.following import start
from flows.command.project import Project, State
from flows.command.server_api import ServerApi, UnauthorizedError
from olmo_core.storage import Storage
from tests import postgres_server
from tests.flows.conftest import wait_until
from tests.postgres_server import PostgresServer
from tests.s3_server import S3Server, free_port
from tests.small_corpus import passages, record, write_jsonl

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "deployments" / "compose"
SECRET = "admin:recognisable-password-0815"
VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+)(?P<rest>[^}]*)\}")


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
    assert f":{services.password.USER}" not in made["server"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"]
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
    """But for what is this machine's: addresses, the state folder, SQLite's patience."""
    ours = services.environment(Project(directory=ROOT, home=tmp_path), State())
    exported = {}
    for script in ("server.sh", "worker.sh"):
        text = (HERE / script).read_text(encoding="utf-8")
        exported |= dict(re.findall(r"^export ([A-Z_]+)=([^\s\"$]+)$", text, re.MULTILINE))
    own = {"PREFECT_HOME", "PREFECT_API_URL", "PREFECT_UI_URL", "PREFECT_CLI_COLORS", "PREFECT_SERVER_DATABASE_TIMEOUT"}
    own |= {"PREFECT_SERVER_CORS_ALLOWED_ORIGINS"}
    wanted = {
        name: value for name, value in ours.items() if name.startswith(("PREFECT_", "DO_NOT")) and name not in own
    }
    wanted = {name: value for name, value in wanted.items() if name in exported or name not in os.environ}
    assert exported == wanted


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
    ran = 0
    for word, rest in instructions():
        if word == "COPY":
            *sources, target = [one for one in rest.split() if not one.startswith("--")]
            for source in sources:
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
    words = [word.replace("/opt/olmo-flows", str(ROOT)) for word in composed()["services"][name]["command"]]
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
@pytest.mark.timeout(900)
def test_its_services_build_a_corpus(image: tuple[Path, dict[str, str]], s3: S3Server, tmp_path: Path) -> None:
    """PostgreSQL, server, bucket, deployments, a worker: build-dolma from the compose file's own commands, to Completed."""
    if why := postgres_server.missing():
        pytest.skip(why)
    _, environment = image
    # The checkout itself, not its copy in the image: kernels are compiled once for each path, and that takes a minute.
    environment["OLMO_PROJECT"] = str(ROOT)
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
        wait_until(lambda: api.is_healthy() or process.poll() is not None, seconds=300, what="the server")
        assert process.poll() is None, (tmp_path / "server.log").read_text()
        with pytest.raises(UnauthorizedError):
            ServerApi.at(client["PREFECT_API_URL"]).request("GET", "/admin/version")
        with running("deploy", client, tmp_path / "deploy.log") as once:
            assert once.wait(300) == 0, (tmp_path / "deploy.log").read_text()
        started.enter_context(running("worker-cpu", client, tmp_path / "worker.log"))
        run = start(api, "build-dolma/build-dolma", {"recipe": str(recipe), "resources": {"workers": 1}})
        over = ("COMPLETED", "FAILED", "CRASHED")
        wait_until(lambda: api.request("GET", f"/flow_runs/{run}")["state_type"] in over, seconds=400, what="the run")
        state = api.request("GET", f"/flow_runs/{run}")["state"]
        assert state["type"] == "COMPLETED", (state, (tmp_path / "worker.log").read_text())
        assert database.asked("select count(*) from flow_run") == "1"
        assert int(database.asked("select count(*) from task_run where state_type = 'COMPLETED'")) >= 14
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                raw = line.read_bytes()
                assert SECRET.encode() not in raw and postgres_server.PASSWORD.encode() not in raw
    made = [path for path in Storage(client["OLMO_STORE"]).walk("") if "manifest.json" in str(path)]
    assert len(made) == 14
    logs = b"".join(log.read_bytes() for log in tmp_path.glob("*.log"))
    for word in (SECRET, postgres_server.PASSWORD, s3.environment["AWS_SECRET_ACCESS_KEY"]):
        assert word.encode() not in logs and json.dumps(word).encode() not in logs
