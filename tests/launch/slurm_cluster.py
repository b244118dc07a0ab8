"""A real Slurm of one machine for tests: munged, slurmctld and slurmd from Debian's packages, on loopback, as root.

All run in the foreground as children of the test process and die with it; all ports are free ones.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.ports import free_port

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
MISSING = "no Slurm: apt-get install slurm-wlm munge, as root"
CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
SlurmdPort={daemon}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=gpu Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """One machine; ends only what it has started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.configuration = folder / "slurm.conf"

    def start(self) -> None:
        """Start the three daemons; raises RuntimeError, with the end of their output, when they do not come up."""
        host = socket.gethostname().split(".")[0]
        for name in ("state", "spool"):
            (self._folder / name).mkdir()
        self._folder.chmod(0o755)
        self.configuration.write_text(
            CONFIGURATION.format(
                host=host, folder=self._folder, controller=free_port(), daemon=free_port(), cpus=os.cpu_count()
            )
        )
        key = self._folder / "munge.key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        files = {
            "socket": "munge.socket",
            "pid-file": "munged.pid",
            "log-file": "munged.log",
            "seed-file": "munge.seed",
        }
        own = [f"--{option}={self._folder / name}" for option, name in files.items()]
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", *own)
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", host)
        deadline = time.monotonic() + 300
        while "idle" not in self._ask("sinfo", "--noheader", "--format=%T"):
            if time.monotonic() > deadline or any(one.poll() is not None for one in self._daemons):
                raise RuntimeError(
                    f"Slurm did not come up: {(self._folder / 'out').read_text(errors='replace')[-1500:]}"
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """End the daemons."""
        for one in reversed(self._daemons):
            one.kill()
            one.wait(120)

    @property
    def environment(self) -> dict[str, str]:
        """What Slurm's commands need to find this cluster."""
        return {"SLURM_CONF": str(self.configuration)}

    def _ask(self, *command: str) -> str:
        found = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60, check=False
        )
        return found.stdout

    def _daemon(self, *command: str) -> None:
        with open(self._folder / "out", "ab") as out:
            self._daemons.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "KILL", *command],
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                )
            )


def install() -> None:
    """Install Debian's packages where we may, and skip the test where we may not."""
    if os.geteuid():
        pytest.skip(MISSING)
    if all(shutil.which(program) for program in PROGRAMS):
        return
    if not shutil.which("apt-get"):
        pytest.skip(MISSING)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=200")
    for command in ((*apt, "update"), (*apt, "install", "-y", "--no-install-recommends", "slurm-wlm", "munge")):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    if done.returncode:
        pytest.skip(f"{MISSING} (tried: {done.stderr.strip()[-200:]})")
