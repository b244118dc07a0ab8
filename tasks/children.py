"""A deployment run as a stage of another flow run: started once, found again by the parent's retry.

The child has the parent's id and its stage as idempotency key. On a retry of the parent a child that still runs is
waited for, one that is done is taken, one that failed is retried itself.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow, get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.runtime import deployment, flow_run
from prefect.states import Cancelling, Scheduled

from olmo_core.errors import JobError
from tasks.made import told

PAUSE = 2.0
"""Seconds between two looks at a child."""
UNNOTICED = 20.0
"""Seconds in which a worker may not have noticed that a run's process was killed: a retry before is called crashed too."""


def run_child(deployed: str, stage: str, parameters: Mapping[str, Any]) -> FlowRun:
    """Run a deployment to its end as a stage of this flow run; returns the finished run.

    Raises JobError with the child's own words when it did not complete. A cancellation of this run is passed on.
    """
    parent = str(flow_run.id)
    child: Any = run_deployment(deployed, parameters=dict(parameters), timeout=0, idempotency_key=f"{parent}/{stage}")
    logger = get_run_logger()
    with get_client(sync_client=True) as client:
        state = client.read_flow_run(child.id).state
        if state is not None and state.is_final() and not state.is_completed():
            _retry(client, child.id)
            logger.info("%s: retrying its run %s, which was %s", stage, child.name, state.name)
        else:
            logger.info("%s: run %s of %s", stage, child.name, deployed)
        try:
            found = _wait(client, child.id)
        except BaseException:
            _pass_on_cancellation(client, UUID(parent), child.id)
            raise
    assert found.state is not None
    if not found.state.is_completed():
        said = str(found.state.message).removeprefix("Flow run encountered an exception: ").removeprefix("JobError: ")
        raise JobError(f"{stage}: its run {found.name} ended as {found.state.name}: {said}")
    return found


def run_stage(work: Flow[Any, Any], deployed: str, stage: str, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Run a flow as a stage of this one: its deployment where this run is of one, else in this process.

    Returns the addresses of what it made. Raises JobError, or what stopped it.
    """
    if deployment.id:
        return told(run_child(deployed, stage, parameters))
    made: dict[str, str] = work(**parameters)
    return made


def _wait(client: SyncPrefectClient, child: UUID) -> FlowRun:
    while True:
        with contextlib.suppress(httpx.HTTPError):  # the server is busy, or is started anew
            found = client.read_flow_run(child)
            if found.state is not None and found.state.is_final():
                return found
        time.sleep(PAUSE)


def _retry(client: SyncPrefectClient, child: UUID) -> None:
    state = client.read_flow_run(child).state
    if state is not None and state.is_crashed():
        ago = (datetime.datetime.now(datetime.UTC) - state.timestamp).total_seconds()
        time.sleep(max(0.0, UNNOTICED - ago))
    client.set_flow_run_state(child, Scheduled(message="Retried with its parent"), force=True)


def _pass_on_cancellation(client: SyncPrefectClient, parent: UUID, child: UUID) -> None:
    """Cancel the child if this run is being cancelled; when only this process is ended it goes on, for a retry to find."""
    own = client.read_flow_run(parent).state
    if own is not None and (own.is_cancelling() or own.is_cancelled()):
        client.set_flow_run_state(child, Cancelling(message="Cancelled with its parent"))
