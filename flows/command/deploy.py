"""`olmo deploy`: what `olmo up` puts on its own server, on the one that PREFECT_API_URL names."""

from __future__ import annotations

import argparse
import os

from flows.command import password, services
from flows.command.project import find_project
from flows.command.server_api import ServerApi
from flows.command.usage import UsageError

DESCRIPTION = """\
Work pools, the deployments of prefect.yaml and the automations on the server at PREFECT_API_URL, with the password in
PREFECT_API_AUTH_STRING: for a server that `olmo up` has not started (Docker Compose, Kubernetes, another machine). Run it
again after changing prefect.yaml. What somebody has switched on or paused there stays so.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    services.add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the command; returns its exit code."""
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        raise UsageError(
            "PREFECT_API_URL is not set: the server's address, e.g. http://server:4200/api; `olmo up` has its own"
        )
    project = find_project()
    api = ServerApi.at(address, password=os.environ.get(password.CLIENT))
    created = services.furnish(project, api, dict(os.environ), cpu_limit=arguments.limit, gpu_limit=arguments.gpu_limit)
    print(f"pools       {', '.join(created) or 'were there'}")
    for name in sorted(api.deployments()):
        print(f"deployment  {name}")
    return 0
