"""train-olmo: a model from tokens, as a run artifact and checkpoints.

A recipe and the tokens of a corpus decide a run; its fingerprint is known before anything has run, so one that is
finished is reused. What trains is the deployment `train-job` of the gpu pool, which this run starts once and finds again
after a retry; without a deployment (`olmo run train-olmo`) it is trained from this process. The run's curve grows in the
dashboard meanwhile, and at the end its card says what came out, beside a bigram model of the same tokens.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.runtime import deployment, flow_run

from flows.train_job import train_job
from olmo_core.train.overrides import TrainOverrides
from tasks.children import run_child
from tasks.training import AUTO, TOKENS, TrainingResources, prepare, run_title
from tasks.training_card import publish_run


def run_name() -> str:
    """Name a run by what it trains and the beginning of its id."""
    return f"{run_title(flow_run.parameters)}-{str(flow_run.id or '')[:8]}"


@flow(name="train-olmo", flow_run_name=run_name, persist_result=False)
def train_olmo(
    recipe: str = "tiny",
    tokens: str = TOKENS,
    held_out: str | None = AUTO,
    start: str | None = None,
    overrides: TrainOverrides | None = None,
    resources: TrainingResources | None = None,
) -> dict[str, str]:
    """Train a model on the tokens of a corpus.

    Args:
        recipe: Name of a recipe (`deployments/recipes/train/{name}.yaml`) or path of a YAML file.
        tokens: The tokens artifact: `tokens/name`, `tokens/name@tag` or `tokens/name/fingerprint`.
        held_out: Tokens whose loss is reported; `auto`: the split `validation` of the same corpus, if it has one; null: none.
        start: A checkpoint to go on from, with a larger budget, as another run.
        overrides: The few values worth changing without writing a recipe file.
        resources: Where and how the run works; changes nothing about what it converges to.
    """
    resources = resources or TrainingResources()
    prepared: Any = prepare.submit(recipe, tokens, held_out, start, overrides, resources).result()
    if not prepared.finished and deployment.id:
        stage = f"training/{prepared.run.fingerprint[:12]}"
        run_child("train-job/train-job", stage, {"run": prepared.address, "resources": resources})
    elif not prepared.finished:
        train_job(prepared.address, resources)
    return publish_run(prepared.run, resources, reused=prepared.finished)


if __name__ == "__main__":
    train_olmo()
