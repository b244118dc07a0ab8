"""The automations of this project: each new checkpoint of a run that asks for it is evaluated.

One for each pool: an event `olmo.checkpoint.saved` (tasks/checkpoint_events.py) whose label `olmo.evaluate-on` names the
pool starts that pool's deployment of evaluate-olmo with the checkpoint and the recipe that the event carries. A person may
pause an automation in the dashboard; applying it again leaves that as it is.
"""

from __future__ import annotations

from typing import Any

from flows.command.server_api import ServerApi

DEPLOYMENTS = {"cpu": "evaluate-olmo/evaluate-olmo", "gpu": "evaluate-olmo/evaluate-olmo-gpu"}


def automation(pool: str, deployment: str) -> dict[str, Any]:
    """Return the automation of a pool; `deployment` is an id."""
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


def apply(api: ServerApi) -> None:
    """Create the automations that are missing and bring the others up to date. A pool whose deployment is not there has none."""
    deployments = api.deployments()
    standing = {one["name"]: one for one in api.request("POST", "/automations/filter", {})}
    for pool, name in DEPLOYMENTS.items():
        if name not in deployments:
            continue
        wanted = automation(pool, deployments[name]["id"])
        known = standing.get(wanted["name"])
        if known is None:
            api.request("POST", "/automations/", wanted)
        else:
            api.request("PUT", f"/automations/{known['id']}", {**wanted, "enabled": known["enabled"]})
