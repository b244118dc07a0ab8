"""Prefect plugin: makes `prefect deployment run build-dolma` work from the project's directory.

Prefect loads it in every process that imports `prefect` where the setting `plugins.enabled` is on: in the project's
directory (pyproject.toml), and under the profile `olmo`. It does three things.

1. In the project's directory, with no address or profile asked for, the address of the server is the one `olmo up`
   chose, and its password the one that `olmo up` keeps. An address in pyproject.toml would be one for all checkouts, and would overrule `--profile`.
2. In `prefect deployment ...` a name without a slash stands for the deployment of that name. Prefect 3.8.8 wants
   FLOW/DEPLOYMENT and has no hook for that, so one method of its client is wrapped; tests/flows/test_plugin.py tells
   when a new version needs another way.
3. In `prefect deployment run ...` a relative path in a parameter means a file of the directory where the command runs, and one
   that is not there ends the command. The worker would look for it elsewhere, and say so in the run.

Whatever goes wrong in here is a warning: no other Prefect command may suffer from it.
"""

from __future__ import annotations

import difflib
import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.plugins import HookContext, SetupResult, register_hook

from flows.command import password
from flows.command.project import Project, find_project, is_project, state_folder
from olmo_core.errors import OlmoError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun
    from prefect.client.schemas.responses import DeploymentResponse


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """What Prefect calls once at import; returns the environment variables to set."""
    try:
        if subcommand(sys.argv) in ("deployment", "deployments"):
            resolve_bare_names()
            resolve_paths()
        return SetupResult(env=project_environment(Path.cwd(), sys.argv))
    except Exception as error:  # see the module's docstring
        ctx.logger_factory("olmo-flows").warning("olmo-flows plugin does nothing: %s: %s", type(error).__name__, error)
        return None


def project_environment(directory: Path, argv: Sequence[str]) -> dict[str, str]:
    """The variables that lead a `prefect` command in a project's directory to that project's server."""
    if not is_project(directory):
        return {}
    found = {} if "OLMO_PROJECT" in os.environ else {"OLMO_PROJECT": str(directory)}
    asked_for_another = {"PREFECT_API_URL", "PREFECT_PROFILE"} & set(os.environ) or profile_option(argv)
    if not asked_for_another:
        project = Project(directory=directory, home=state_folder(directory))
        state = project.read_state()
        found |= {"PREFECT_API_URL": state.api_url, "PREFECT_UI_URL": state.ui_url}
        if kept := password.stored(project):
            # One that is set already is what Prefect sends: somebody wants it so.
            found |= {password.CLIENT: os.environ.get(password.CLIENT) or kept}
    return found


def subcommand(argv: Sequence[str]) -> str | None:
    """The subcommand of a `prefect` command line; None in a process that is not one."""
    # `python -m prefect` has "-m" as its name while the package is being imported.
    if not argv or Path(argv[0]).name not in ("prefect", "-m", "__main__.py"):
        return None
    words = iter(argv[1:])
    for word in words:
        if not word.startswith("-"):
            return word
        if word in ("-p", "--profile"):
            next(words, None)
    return None


def profile_option(argv: Sequence[str]) -> bool:
    """Whether a `prefect` command line names a profile before its subcommand."""
    command = subcommand(argv)
    options = argv[1 : argv.index(command)] if command is not None else ()
    return any(option in ("-p", "--profile") or option.startswith("--profile=") for option in options)


def resolve_bare_names() -> None:
    """Wrap the client's look-up of a deployment by name so that a bare name is completed first."""
    from prefect.client.orchestration import PrefectClient

    original = PrefectClient.read_deployment_by_name

    @functools.wraps(original)
    async def read_deployment_by_name(self: PrefectClient, name: str) -> DeploymentResponse:
        import httpx

        try:
            return await original(self, name if "/" in name else await full_name(self, name))
        except httpx.ConnectError as error:
            message = f"no Prefect server answers at {self.api_url}; start this project's with `olmo up`"
            raise _refusal(message) from error
        except httpx.TimeoutException as error:  # Prefect's client has asked again for minutes
            raise _refusal(
                f"{self.api_url} gives no answer in time: the machine is busy or the server hangs"
            ) from error
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 401:
                raise
            given = "authorization" in error.request.headers
            raise _refusal(f"{self.api_url} answered 401: {password.refused(given=given)}") from error

    PrefectClient.read_deployment_by_name = read_deployment_by_name  # type: ignore[assignment, method-assign]


def resolve_paths() -> None:
    """Wrap the client's start of a deployment so that paths in its parameters are absolute, where this project's server starts it."""
    from prefect.client.orchestration import PrefectClient

    original = PrefectClient.create_flow_run_from_deployment

    @functools.wraps(original)
    async def create_flow_run_from_deployment(self: PrefectClient, *words: Any, **options: Any) -> FlowRun:
        from flows.command.local_paths import made_absolute

        project = _project_at(str(self.api_url)) if options.get("parameters") else None
        if project is not None:
            try:
                options["parameters"] = made_absolute(options["parameters"], Path.cwd(), project.directory)
            except OlmoError as error:
                raise _refusal(str(error)) from error
        return await original(self, *words, **options)

    PrefectClient.create_flow_run_from_deployment = create_flow_run_from_deployment  # type: ignore[assignment, method-assign]


def _project_at(api_url: str) -> Project | None:
    """The project from here whose server has this address; None where there is none, or none that can tell."""
    try:
        project = find_project()
        return project if project.read_state().api_url == api_url.rstrip("/") else None
    except OlmoError:  # see the module's docstring
        return None


async def full_name(client: PrefectClient, name: str) -> str:
    """FLOW/DEPLOYMENT for the name of a deployment; ends the command, with the candidates, if it is not one thing."""
    known = await _deployments(client)
    found = [each for each in known if each.partition("/")[2] == name]
    own = f"{name}/{name}"
    if own in found:
        return own
    if len(found) == 1:
        return found[0]
    if found:
        raise _refusal(f"several deployments are named {name!r}: {', '.join(found)}; give the full name")
    near = difflib.get_close_matches(name, [each.partition("/")[2] for each in known], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    raise _refusal(f"no deployment is named {name!r}{hint} There are: {', '.join(known) or 'none (run `olmo up`)'}")


async def _deployments(client: PrefectClient) -> list[str]:
    flows: dict[Any, str] = {flow.id: flow.name for flow in await client.read_flows()}
    return sorted(f"{flows[each.flow_id]}/{each.name}" for each in await client.read_deployments())


def _refusal(message: str) -> SystemExit:
    """What to raise so that the command line ends as Prefect's own commands do: a message, no traceback, code 1."""
    sys.stderr.write(f"{message}\n")
    return SystemExit(1)
