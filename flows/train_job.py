"""train-job: the training of one run that train-olmo has prepared, on the gpu pool.

This process trains nothing. It starts exactly one job outside (torchrun on this machine, a Slurm job, a Kubernetes
job), has it on record before it runs, and waits. A retry finds the job that still runs, or starts a new one, which goes
on from the last checkpoint. A job that was preempted is started again; cancelling the run lets it save first.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Failed

from tasks.training import TrainingResources
from tasks.training_job import open_job, run_job


def run_name() -> str:
    """Name a run by what it trains and the beginning of its id."""
    return f"{str(flow_run.parameters.get('run', '//')).split('/')[1]}-{str(flow_run.id or '')[:8]}"


@flow(name="train-job", flow_run_name=run_name, persist_result=False)
def train_job(run: str, resources: TrainingResources | None = None) -> str | State[Any]:
    """Train a run to its end.

    Args:
        run: `run/name/fingerprint` of a run that train-olmo has prepared.
        resources: Where and how it works; changes nothing about what it converges to.
    """
    with open_job(run, resources) as training:
        while training.again:
            run_job.with_options(task_run_name=f"job/{training.preempted + 1}")(training)
        if not training.done:
            return Failed(
                name="Preempted",
                message=f"preempted {training.preempted} times (resources.restarts); {training.prospect()}",
            )
        return training.outcome()


if __name__ == "__main__":
    raise SystemExit(
        "train-job is started by train-olmo: `olmo run train-olmo` or `prefect deployment run train-olmo/tiny`"
    )
