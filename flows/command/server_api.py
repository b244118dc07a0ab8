"""The few questions the command line asks a Prefect server, without importing Prefect (2 to 3 s).

Everything is plain JSON over HTTP to this machine; proxies from the environment are not used.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from flows.command import password
from flows.command.project import HOST, Project, api_url
from olmo_core.errors import OlmoError

PATIENCE = 60.0
"""Seconds for which a server that answers 503 (SQLite was locked), too late or not at all is asked again."""
_WAITS = (0.2, 0.5, 1.0, 2.0)
"""Seconds from one try to the next; the last one from then on."""
_TELL_AFTER = 5.0
"""Seconds after which somebody who waits is told why."""
_REPEATABLE = ("GET", "PUT", "PATCH")
"""Twice is the same as once: what a PATCH of ours sets are values. So are all questions (`.../filter`)."""

_PAGE = 200
"""Objects that a Prefect server gives at once (PREFECT_SERVER_API_DEFAULT_LIMIT, 200 unless it is set); it refuses to give more."""
_CUT_OFF = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, http.client.IncompleteRead)
"""A connection that was there; RemoteDisconnected is one of the first."""
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


class NoAnswerError(ServerError):
    """The server took too long to answer, or hung up: it may have done what was asked."""


class ServerApi:
    """A client of a Prefect server, by default of one on this machine."""

    def __init__(
        self,
        port: int,
        *,
        host: str = HOST,
        password: str | None = None,
        timeout: float = 10.0,
        patience: float = PATIENCE,
    ) -> None:
        """`host`: on what the server listens. `password`: as `user:password`.

        `timeout` is in seconds, for the first try of each request; `patience`, too, for all of them. A client that had none left
        asks once only, until the server answers again.
        """
        self.address = api_url(port, host)
        self.timeout, self.patience = timeout, patience
        self._password = password
        self._elsewhere = False
        self._csrf: dict[str, str] = {}
        self._out_of_patience = self._told = False

    @classmethod
    def at(
        cls, address: str, *, password: str | None = None, timeout: float = 10.0, patience: float = PATIENCE
    ) -> ServerApi:
        """Return a client of a server anywhere; `address` ends with `/api`."""
        client = cls(0, password=password, timeout=timeout, patience=patience)
        client.address = address.rstrip("/")
        client._elsewhere = True
        return client

    @classmethod
    def of(
        cls, project: Project, *, elsewhere: bool = False, timeout: float = 10.0, patience: float = PATIENCE
    ) -> ServerApi:
        """Return a client of a project's server, with the password that this project's commands use.

        `elsewhere`: of the one that PREFECT_API_URL names, if it names another, as Prefect's own commands do.
        """
        state = project.read_state()
        url = os.environ.get("PREFECT_API_URL", state.api_url).rstrip("/")
        if elsewhere and url != state.api_url:
            return cls.at(url, password=os.environ.get(password.CLIENT), timeout=timeout, patience=patience)
        secret = password.of_commands(project)
        return cls(state.port, host=state.host, password=secret, timeout=timeout, patience=patience)

    def run_page(self, run_id: str) -> str:
        """Return where the dashboard shows a flow run."""
        return f"{self.address.removesuffix('/api')}/v2/runs/flow-run/{run_id}"

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | list[dict[str, Any]] | None = None,
        *,
        repeatable: bool | None = None,
    ) -> Any:
        """The decoded answer to one request; `path` starts with a slash and comes after `/api`.

        Where the server wants a token against requests from other web pages, that is fetched first.
        While the server is too busy to look (503) it is asked again, as long as the client's patience lasts; where twice is the
        same as once also when it took too long or hung up (`repeatable`: whether it is, where the method does not tell).
        Raises NotFoundError on 404, UnauthorizedError on 401 and ServerError on anything else that is not an answer in JSON.
        """
        again = (method in _REPEATABLE or path.endswith("/filter")) if repeatable is None else repeatable
        try:
            return self._request_patiently(method, path, body, again)
        except _TokenError:
            client = str(uuid.uuid4())
            token = self._request_patiently("GET", f"/csrf-token?client={client}", None, True)["token"]
            self._csrf = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}
            return self._request_patiently(method, path, body, again)

    def _request_patiently(
        self, method: str, path: str, body: Mapping[str, Any] | list[dict[str, Any]] | None, repeatable: bool
    ) -> Any:
        began, timeout = time.monotonic(), self.timeout
        patience = 0.0 if self._out_of_patience else self.patience
        for tries, wait in enumerate(itertools.chain(_WAITS, itertools.repeat(_WAITS[-1])), start=1):
            try:
                answer = self._request_once(method, path, body, timeout)
                self._out_of_patience = False
                return answer
            except (BusyError, NoAnswerError) as error:
                passed = time.monotonic() - began
                if isinstance(error, NoAnswerError) and not repeatable:
                    raise type(error)(f"{error}; it may have been done all the same") from error
                if passed + wait > patience:
                    self._out_of_patience = True
                    if tries == 1:
                        raise
                    raise type(error)(f"{error}; asked {tries} times in {passed:.0f} s") from error
                if passed >= _TELL_AFTER and not self._told:
                    self._told = True
                    print(f"the server is slow; still waiting, up to {patience:.0f} s", file=sys.stderr, flush=True)
            time.sleep(wait)
            # A machine that needs longer than this for an answer would never be heard.
            timeout = max(self.timeout, min(2 * timeout, patience - (time.monotonic() - began)))
        raise AssertionError  # the waits do not end

    def _request_once(
        self, method: str, path: str, body: Mapping[str, Any] | list[dict[str, Any]] | None, timeout: float
    ) -> Any:
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
            with _OPENER.open(request, timeout=timeout) as answer:
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
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            look = "" if self._elsewhere else " (`olmo status`)"
            if isinstance(reason, TimeoutError):
                raise NoAnswerError(
                    f"{method} {self.address}{path}: no answer within {timeout:.0f} s, the machine is busy or the server hangs{look}"
                ) from error
            kind = NoAnswerError if isinstance(reason, _CUT_OFF) else ServerError
            raise kind(f"{method} {self.address}{path} failed: {reason}; is the server up{look}?") from error

    def is_healthy(self) -> bool:
        """Whether a Prefect server answers at the address and says that it is well."""
        try:
            return self.request("GET", "/health") is True
        except ServerError:
            return False

    def find(self, kind: str, *, limit: int | None = None, offset: int = 0, **body: Any) -> list[dict[str, Any]]:
        """Objects of a kind (`flow_runs`, `deployments`, `logs`) that a filter lets pass: all, or `limit` of them after `offset`.

        The server gives so many at once and does not say that there are more. Of objects that leave the filter meanwhile another
        may be missed.
        """
        # By id: one that comes in between moves another to the next page, where it is again.
        found: dict[str, dict[str, Any]] = {}
        while limit is None or limit > 0:
            at_once = _PAGE if limit is None else min(_PAGE, limit)
            page = self.request("POST", f"/{kind}/filter", {**body, "limit": at_once, "offset": offset})
            found |= {str(one["id"]): one for one in page}
            if len(page) < at_once:
                break
            offset += at_once
            limit = None if limit is None else limit - at_once
        return list(found.values())

    def origins(self, runs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
        """Of which deployment each flow run is, `flow/deployment`, by the run's id; one without a deployment has its flow's name alone."""
        runs = list(runs)
        flows, deployments = (
            self._names(kind, {run[f"{kind[:-1]}_id"] for run in runs} - {None}) for kind in ("flows", "deployments")
        )
        found = {run["id"]: [flows.get(run["flow_id"]), deployments.get(run["deployment_id"])] for run in runs}
        return {run: "/".join(filter(None, names)) for run, names in found.items()}

    def _names(self, kind: str, ids: Iterable[str]) -> dict[str, str]:
        wanted = sorted(ids)
        these: dict[str, Any] = {kind: {"id": {"any_": wanted}}}
        return {one["id"]: one["name"] for one in self.find(kind, **these)} if wanted else {}

    def deployments(self) -> dict[str, dict[str, Any]]:
        """All deployments by their full name, `flow/deployment`."""
        flows = {flow["id"]: flow["name"] for flow in self.find("flows")}
        return {f"{flows[each['flow_id']]}/{each['name']}": each for each in self.find("deployments")}
