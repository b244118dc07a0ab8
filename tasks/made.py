"""What a flow run has made, as labels of the run: a parent reads there which artifacts its child's were.

Results of flows are not persisted, and a name's tag `latest` may have moved on since: the addresses stand on the run itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.runtime import flow_run

from olmo_core.errors import JobError

PREFIX = "olmo.made."


def tell(made: Mapping[str, str]) -> dict[str, str]:
    """Put addresses of artifacts, by what each is, on the flow run that this task or flow belongs to; returns them."""
    if flow_run.id:
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(
                UUID(str(flow_run.id)), {f"{PREFIX}{what}": one for what, one in made.items()}
            )
    return dict(made)


def told(run: FlowRun) -> dict[str, str]:
    """Return what a run that is done has made. Raises JobError where it does not say."""
    made = {name.removeprefix(PREFIX): str(one) for name, one in run.labels.items() if name.startswith(PREFIX)}
    if not made:
        raise JobError(
            f"the run {run.name} does not say what it made; was its worker's checkout an older one? "
            f"Update it and retry that run, then this one"
        )
    return made
