"""The automations of this project, which `olmo up` puts on the server.

- Each new checkpoint of a run that asks for it is evaluated: one automation for each pool. An event
  `olmo.checkpoint.saved` (tasks/checkpoint_events.py) whose label `olmo.evaluate-on` names the pool starts that pool's
  deployment of evaluate-olmo with the checkpoint and the recipe that the event carries.
- A deployment whose scheduled runs have failed several times is paused: nobody is there to see the fourth.
- A run that has given no sign of life for several heartbeats is called Crashed, so that its deployment's slot is free.
- Where OLMO_NOTIFY_BLOCK names a block, it is told of each run that failed or crashed.

A person may pause an automation in the dashboard; applying it again leaves that as it is.
"""

from __future__ import annotations

import os
from typing import Any

from flows.command.server_api import NotFoundError, ServerApi
from flows.deployed import EVALUATE
from olmo_core.errors import OlmoError

FAILURES, FAILURE_SECONDS = 3, 7 * 86400
"""Scheduled runs of a deployment that fail or crash within a week until it is paused: three nights."""
HEARTBEAT = 60
"""Seconds between two signs of life of a flow run (Prefect takes 30 at least); `olmo up` gives it to the workers."""
SILENCE = 10 * HEARTBEAT
"""Seconds without one after which a run is called Crashed. Of a busy machine single ones are late or lost."""
NOTIFY = "OLMO_NOTIFY_BLOCK"
"""Variable with the block that is told of failures: its type and name, `webhook/ops`, `slack-webhook/team`."""

_RUN = "prefect.flow-run"
_BAD = [f"{_RUN}.{state}" for state in ("Failed", "Crashed", "TimedOut", "Preempted")]
"""Events are called after the states' names; train-job's failure after too many preemptions has one of its own."""
_TEXT = "{{ flow.name }}: {{ flow_run.name }} is {{ flow_run.state.name }}: {{ flow_run.state.message }}"


def automation(pool: str, deployment: str) -> dict[str, Any]:
    """Return the automation that evaluates new checkpoints on a pool; `deployment` is an id."""
    return {
        "name": f"evaluate-new-checkpoints-{pool}",
        "description": f"Evaluates each new checkpoint of runs with resources.evaluate and evaluate_on: {pool}.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": ["olmo.checkpoint.saved"],
            "match": {"prefect.resource.id": "olmo.checkpoint.*", "olmo.evaluate-on": pool},
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": 0,
        },
        "actions": [
            {
                "type": "run-deployment",
                "source": "selected",
                "deployment_id": deployment,
                "parameters": {
                    "models": [_text("event.payload.checkpoint")],
                    "recipe": _text("event.payload.recipe"),
                    "resources": {"__prefect_kind": "json", "value": _text("event.payload.resources | tojson")},
                },
            }
        ],
    }


def _text(expression: str) -> dict[str, str]:
    return {"__prefect_kind": "jinja", "template": f"{{{{ {expression} }}}}"}


def pause_after_failures() -> dict[str, Any]:
    """Return the automation that pauses a deployment whose scheduled runs keep failing; those that people start do not count."""
    return {
        "name": "pause-after-repeated-failure",
        "description": f"Pauses a deployment when {FAILURES} of its scheduled runs failed or crashed within 7 days; resume it in the dashboard.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": _BAD,
            "match": {"prefect.resource.id": f"{_RUN}.*"},
            "match_related": {"prefect.resource.role": "tag", "prefect.resource.id": "prefect.tag.auto-scheduled"},
            "for_each": ["related:deployment:prefect.resource.id"],
            "threshold": FAILURES,
            "within": FAILURE_SECONDS,
        },
        "actions": [{"type": "pause-deployment", "source": "inferred"}],
    }


def crash_the_silent() -> dict[str, Any]:
    """Return the automation that reports runs whose process is gone together with its worker."""
    return {
        "name": "crash-silent-runs",
        "description": f"A run that has given no sign of life for {SILENCE} s (its heartbeat: {HEARTBEAT} s) is Crashed; `prefect flow-run retry` continues it.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Proactive",
            "after": [f"{_RUN}.heartbeat"],
            "expect": [f"{_RUN}.*"],
            "match": {"prefect.resource.id": f"{_RUN}.*"},
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": SILENCE,
        },
        "actions": [
            {
                "type": "change-flow-run-state",
                "state": "CRASHED",
                "name": "Crashed",
                "message": f"It has given no sign of life for {SILENCE} s (seen by the automation crash-silent-runs).",
            }
        ],
    }


def notify(kind: str, block: str) -> dict[str, Any]:
    """Return the automation that tells a block (its type's slug and its id) of failures: a webhook as JSON, others as a message."""
    if kind == "webhook":
        fields = {
            "flow": "flow.name",
            "run": "flow_run.name",
            "state": "flow_run.state.name",
            "message": "flow_run.state.message",
        }
        payload = ", ".join(f'"{name}": {{{{ {value} | tojson }}}}' for name, value in fields.items())
        action = {"type": "call-webhook", "payload": f'{{{payload}, "id": {{{{ flow_run.id | string | tojson }}}}}}'}
    else:
        action = {"type": "send-notification", "subject": "olmo-flows: {{ flow_run.name }}", "body": _TEXT}
    return {
        "name": "notify-of-failures",
        "description": f"Tells the block that {NOTIFY} named of each run that failed or crashed.",
        "enabled": True,
        "trigger": {
            "type": "event",
            "posture": "Reactive",
            "expect": _BAD,
            "match": {"prefect.resource.id": f"{_RUN}.*"},
            "for_each": ["prefect.resource.id"],
            "threshold": 1,
            "within": 0,
        },
        "actions": [{**action, "block_document_id": block}],
    }


def block_of(api: ServerApi, named: str) -> tuple[str, str]:
    """Return type and id of the block `type/name`. Raises OlmoError, naming the variable, for one that is not there."""
    kind, slash, name = named.partition("/")
    if not slash or not kind or not name:
        raise OlmoError(f"{NOTIFY}: {named!r}; give type and name of a Prefect block, e.g. webhook/ops")
    try:
        found = api.request("GET", f"/block_types/slug/{kind}/block_documents/name/{name}")
    except NotFoundError as error:
        raise OlmoError(
            f"{NOTIFY}: the server has no block {named!r}; make it in the dashboard (Blocks), or with "
            f"`python -c 'from prefect.blocks.webhook import Webhook; Webhook(url=...).save(\"{name}\")'`"
        ) from error
    return kind, str(found["id"])


def wanted(api: ServerApi) -> list[dict[str, Any]]:
    """Return the automations that are to be there. A pool whose deployment is not there has none."""
    deployments = api.deployments()
    found = [automation(pool, deployments[name]["id"]) for pool, name in EVALUATE.items() if name in deployments]
    found += [pause_after_failures(), crash_the_silent()]
    if named := os.environ.get(NOTIFY):
        found.append(notify(*block_of(api, named)))
    return found


def apply(api: ServerApi) -> None:
    """Create the automations that are missing and bring the others up to date; one that is not wanted any more is left alone."""
    standing = {one["name"]: one for one in api.request("POST", "/automations/filter", {})}
    for one in wanted(api):
        known = standing.get(one["name"])
        if known is None:
            api.request("POST", "/automations/", one)
        else:
            api.request("PUT", f"/automations/{known['id']}", {**one, "enabled": known["enabled"]})
