"""The few questions the command line asks a Prefect server, without importing Prefect (2 to 3 s).

Everything is plain JSON over HTTP to this machine; proxies from the environment are not used.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from typing import Any

from flows.command import password
from flows.command.project import HOST, Project, api_url
from olmo_core.errors import OlmoError

# The server answers 503 when SQLite was locked: nothing was done, and asking again is right (as Prefect's own client does).
_BUSY_SECONDS = 60.0
_BUSY_WAITS = (0.2, 0.5, 1.0, 2.0)

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerError(OlmoError):
    """The Prefect server cannot be reached or answered with an error."""


class NotFoundError(ServerError):
    """The Prefect server has no such object."""


class UnauthorizedError(ServerError):
    """The Prefect server wants a password, or another one."""


class _TokenError(ServerError):
    """The server wants a token that only somebody who can read its answers has (CSRF), or a newer one."""


class BusyError(ServerError):
    """The server could not look at the request now."""


class ServerApi:
    """A client of a Prefect server, by default of one on this machine."""

    def __init__(self, port: int, *, host: str = HOST, password: str | None = None, timeout: float = 10.0) -> None:
        """`host`: on what the server listens. `password`: as `user:password`. `timeout` is in seconds, for each request."""
        self.address = api_url(port, host)
        self.timeout = timeout
        self._password = password
        self._elsewhere = False
        self._csrf: dict[str, str] = {}

    @classmethod
    def at(cls, address: str, *, password: str | None = None, timeout: float = 10.0) -> ServerApi:
        """Return a client of a server anywhere; `address` ends with `/api`."""
        client = cls(0, password=password, timeout=timeout)
        client.address = address.rstrip("/")
        client._elsewhere = True
        return client

    @classmethod
    def of(cls, project: Project, *, elsewhere: bool = False, timeout: float = 10.0) -> ServerApi:
        """Return a client of a project's server, with the password that this project's commands use.

        `elsewhere`: of the one that PREFECT_API_URL names, if it names another, as Prefect's own commands do.
        """
        state = project.read_state()
        url = os.environ.get("PREFECT_API_URL", state.api_url).rstrip("/")
        if elsewhere and url != state.api_url:
            return cls.at(url, password=os.environ.get(password.CLIENT), timeout=timeout)
        return cls(state.port, host=state.host, password=password.of_commands(project), timeout=timeout)

    def run_page(self, run_id: str) -> str:
        """Return where the dashboard shows a flow run."""
        return f"{self.address.removesuffix('/api')}/v2/runs/flow-run/{run_id}"

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The decoded answer to one request; `path` starts with a slash and comes after `/api`.

        Where the server wants a token against requests from other web pages, that is fetched first.
        While the server is too busy to look (503) it is asked again, for a minute.
        Raises NotFoundError on 404, UnauthorizedError on 401 and ServerError on anything else that is not an answer in JSON.
        """
        deadline = time.monotonic() + _BUSY_SECONDS
        waits = itertools.chain(_BUSY_WAITS, itertools.repeat(_BUSY_WAITS[-1]))
        while True:
            try:
                return self._request_with_token(method, path, body)
            except BusyError:
                wait = next(waits)
                if time.monotonic() + wait > deadline:
                    raise
                time.sleep(wait)

    def _request_with_token(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        try:
            return self._request_once(method, path, body)
        except _TokenError:
            client = str(uuid.uuid4())
            token = self._request_once("GET", f"/csrf-token?client={client}", None)["token"]
            self._csrf = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
            return self._request_once(method, path, body)

    def _request_once(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        headers = {"Content-Type": "application/json", **self._csrf}
        if self._password:
            headers["Authorization"] = "Basic " + base64.b64encode(self._password.encode()).decode()
        request = urllib.request.Request(
            self.address + path,
            method=method,
            headers=headers,
            data=None if body is None else json.dumps(body).encode(),
        )
        try:
            with _OPENER.open(request, timeout=self.timeout) as answer:
                content = answer.read()
            return json.loads(content) if content else None
        except urllib.error.HTTPError as error:
            kind = {401: UnauthorizedError, 404: NotFoundError, 503: BusyError}.get(error.code, ServerError)
            detail = error.read(500).decode(errors="replace")
            if error.code == 403 and "CSRF" in detail:
                kind = _TokenError
            if kind is UnauthorizedError:
                detail = password.refused(given=bool(self._password), elsewhere=self._elsewhere)
            raise kind(f"{method} {self.address}{path} answered {error.code}: {detail}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ServerError(
                f"{method} {self.address}{path} failed: {error}; is the server up{'' if self._elsewhere else ' (`olmo status`)'}?"
            ) from error

    def is_healthy(self) -> bool:
        """Whether a Prefect server answers at the address and says that it is well."""
        try:
            return self.request("GET", "/health") is True
        except ServerError:
            return False

    def find(self, kind: str, **body: Any) -> list[dict[str, Any]]:
        """All objects of a kind (`flow_runs`, `deployments`, `flows`, `work_pools`) that a filter body lets pass."""
        found: list[dict[str, Any]] = self.request("POST", f"/{kind}/filter", body)
        return found

    def deployments(self) -> dict[str, dict[str, Any]]:
        """All deployments by their full name, `flow/deployment`."""
        flows = {flow["id"]: flow["name"] for flow in self.find("flows")}
        return {f"{flows[each['flow_id']]}/{each['name']}": each for each in self.find("deployments")}
