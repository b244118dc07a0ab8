"""A real S3 server for tests: Ceph's RADOS Gateway from Debian's packages, on loopback, up in about five seconds.

One monitor, one storage daemon that keeps its objects in memory, and the gateway, all in the foreground as children of
the test process: they die with it, even by SIGKILL. All ports are free ones, so several test sessions can run at once.
A pytest plugin (named in conftest.py): tests marked `s3` run in one process, so that the server is started once there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from olmo_core import storage_s3
from tests import debian
from tests.fault_proxy import FaultProxy
from tests.ports import free_port

PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool")
PACKAGES = ("radosgw", "ceph-mon", "ceph-osd")
ACCESS_KEY, SECRET_KEY = "olmo-tests", "a-secret-of-tests-only"

# No authentication among the daemons: they listen on loopback only, and hold nothing but what tests write.
# `ms mon client mode`: the gateway's default is `secure`, which no authentication cannot give.
# `tcp_nodelay`: without it most answers take 45 ms instead of 4.
# `rgw enable ...`: what runs beside the requests makes ending the gateway wait, for more than a minute at times.
# `paxos ...`: the usual pauses of seconds before each change of the cluster's map are for clusters of many.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor_port}]
ms bind msgr1 = false
ms mon client mode = crc
public addr = 127.0.0.1
public network = 127.0.0.0/8
cluster addr = 127.0.0.1
cluster network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
paxos propose interval = 0.05
paxos min wait = 0.01
mon data = {folder}/mon
mon data avail crit = 1
mon allow pool size one = true
osd data = {folder}/osd
osd objectstore = memstore
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
osd class update on start = false
run dir = {folder}
admin socket =
log file = {folder}/$name.log
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable gc threads = false
rgw enable lc threads = false
rgw enable quota threads = false
rgw dynamic resharding = false
rgw run sync thread = false
"""


class S3Server:
    """A cluster of one; ends only what it has started."""

    def __init__(self) -> None:
        """Choose the ports; nothing is started yet."""
        self._port, self._monitor_port = free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{self._port}"
        self._folder = Path()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs, as environment variables, and nothing of what the user's own account needs."""
        return {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def start(self, folder: Path) -> None:
        """Start the three daemons in an empty folder and make the one user.

        Raises RuntimeError, with the end of a log, when one does not come up.
        """
        self._folder = folder
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        for name in ("mon", "osd"):
            (folder / name).mkdir()
        ports = {"port": self._port, "monitor_port": self._monitor_port}
        (folder / "ceph.conf").write_text(CONFIGURATION.format(fsid=fsid, folder=folder, **ports))
        monmap = str(folder / "monmap")
        self._command(
            "monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{self._monitor_port}]", monmap
        )
        self._command("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap)
        self._daemon("ceph-mon", "-i", "a")
        self._command("ceph", "--connect-timeout", "60", "osd", "new", osd, "0")
        self._command("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("ceph-osd", "-i", "0")
        self.start_gateway()
        self.add_user("olmo", ACCESS_KEY, SECRET_KEY)

    def add_user(self, name: str, access_key: str, secret_key: str) -> None:
        """Make a user, whose buckets no other user may see."""
        user = (f"--uid={name}", f"--display-name={name}", f"--access-key={access_key}", f"--secret={secret_key}")
        self.admin("user", "create", *user)

    def admin(self, *words: str) -> None:
        """Do what only the server's owner can: users, quotas."""
        self._command("radosgw-admin", "-n", "client.rgw", *words)

    def stop(self) -> None:
        """End the daemons at once: what they hold in memory is not wanted any more."""
        for name in reversed(list(self._daemons)):
            self._end(name)

    def start_gateway(self) -> None:
        """Start the gateway, again after `stop_gateway`, and wait until it answers."""
        gateway = self._daemon("radosgw", "-n", "client.rgw")
        deadline = time.monotonic() + 400
        while not self._answers():
            if gateway.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the S3 gateway did not come up: {self._end_of_log('radosgw')}")
            time.sleep(0.1)

    def stop_gateway(self) -> None:
        """End the gateway: connections are refused from now on, the objects stay."""
        # Politely: for 30 s the cluster would wait for answers of one that was killed.
        self._daemons["radosgw"].terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._daemons["radosgw"].wait(60)
        self._end("radosgw")

    def freeze_gateway(self) -> None:
        """Make the gateway take connections and never answer, until `thaw_gateway`."""
        self._daemons["radosgw"].send_signal(signal.SIGSTOP)

    def thaw_gateway(self) -> None:
        """Let a frozen gateway go on."""
        self._daemons["radosgw"].send_signal(signal.SIGCONT)

    def client(self) -> Any:
        """A client of its own: not the one under test."""
        import boto3

        session = boto3.session.Session(
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY, region_name="us-east-1"
        )
        return session.client("s3", endpoint_url=self.endpoint)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.endpoint, timeout=30) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _command(self, *command: str) -> None:
        process = self._run(*command)
        try:
            code = process.wait(400)
        finally:
            process.kill()
        if code:
            raise RuntimeError(f"{' '.join(command)} gave {code}: {self._end_of_log(command[0])}")

    def _daemon(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        # setpriv: the kernel kills the daemon when the test process is gone, however it went.
        self._daemons[program] = self._run(program, "-f", *arguments, before=("setpriv", "--pdeathsig", "KILL"))
        return self._daemons[program]

    def _run(self, program: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "CEPH_CONF": str(self._folder / "ceph.conf")}
        with open(self._folder / f"{program}.out", "ab") as out:
            return subprocess.Popen(
                [*before, program, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def _end(self, program: str) -> None:
        daemon = self._daemons.pop(program, None)
        if daemon is not None:
            daemon.kill()
            daemon.wait(30)

    def _end_of_log(self, program: str) -> str:
        return (self._folder / f"{program}.out").read_text(errors="replace")[-1000:].strip()


def missing() -> str:
    """Install Debian's packages where we may; returns why the server cannot be started, or nothing."""
    return debian.missing(PROGRAMS, PACKAGES, "radosgw")


_server = pytest.StashKey[S3Server]()
_environment = pytest.StashKey[pytest.MonkeyPatch]()


def pytest_configure(config: pytest.Config) -> None:
    """Make this process, and all that it starts, clients of the server, before it is started.

    Later would be too late: worker processes have the environment of the fork server, which begins with the first pool.
    """
    server = config.stash[_server] = S3Server()
    patch = config.stash[_environment] = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in server.environment.items():
        patch.setenv(name, value)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give the environment back."""
    config.stash[_environment].undo()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need the server run in one process: first, as xdist looks at the groups in this hook too.

    But those that need the small corpus or the services as well run where these are: a second server is the cheaper.
    """
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            elsewhere = {"small", "running_services"} & set(getattr(item, "fixturenames", ()))
            if item.get_closest_marker("s3") and not elsewhere:
                item.add_marker(pytest.mark.xdist_group("s3"))


@pytest.fixture(scope="session")
def s3(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server, running; the environment leads there."""
    if why := missing():
        pytest.skip(why)
    server = pytestconfig.stash[_server]
    try:
        server.start(tmp_path_factory.mktemp("s3"))
        yield server
    finally:
        server.stop()


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """The name of a new bucket."""
    name = f"tests-{uuid.uuid4()}"
    s3.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def faults(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the server, through which the clients of this process, and of processes that it spawns, go meanwhile.

    Nothing goes wrong until the test says what. Clients are impatient: a stall takes a second, and lasts much longer than they wait.
    """
    with FaultProxy(s3.endpoint, seed=20, stall_seconds=30) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("OLMO_S3_READ_TIMEOUT", "1")
        storage_s3.forget()
        yield proxy
    storage_s3.forget()
