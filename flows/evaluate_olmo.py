"""evaluate-olmo: checkpoints scored on benchmarks and texts, and beside each other.

Names, lists and patterns say which checkpoints; each is a task of its own, scored or found scored. What is asked is a
recipe (`deployments/recipes/evaluation`). At the end stands a report over all checkpoints that were evaluated by it:
scores with intervals, curves, what changed and what is not resolved, clean and contaminated items.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from tasks.evaluation import AUTO, EvaluationResources, evaluation_title, open_evaluation
from tasks.evaluation_report import publish_report


def run_name() -> str:
    """Name a run by what it evaluates and the beginning of its id."""
    return f"{evaluation_title(flow_run.parameters)}-{str(flow_run.id or '')[:8]}"


@flow(name="evaluate-olmo", flow_run_name=run_name, persist_result=False)
def evaluate_olmo(
    models: list[str] = ["checkpoint/tiny@step*"],  # noqa: B006 - never changed; Prefect shows it in the form
    recipe: str = "tiny",
    limit: int | None = None,
    contaminated: str | None = AUTO,
    held_out: str | None = None,
    resources: EvaluationResources | None = None,
) -> dict[str, str]:
    """Evaluate models.

    Args:
        models: Checkpoints (`checkpoint/tiny`, `checkpoint/tiny@step100-tokens0B`, `checkpoint/tiny@step*`) or folders of Hugging Face models.
        recipe: Name of a recipe (`deployments/recipes/evaluation/{name}.yaml`) or path of a YAML file.
        limit: Items of each benchmark at most, for a quick look; under a name of its own.
        contaminated: `attributes/CORPUS-contaminated-items`, which tells dirty from clean items; `auto`: that of the corpus trained on; null: none.
        held_out: A held-out corpus of ours (`corpus/NAME-validation/FINGERPRINT`) in place of those that the recipe names; null: the recipe's.
        resources: Where and how the run works; changes no number but by rounding.
    """
    with open_evaluation(models, recipe, limit, resources, held_out) as evaluation:
        for target in evaluation.targets:
            evaluation.evaluate(target)
        made: Any = publish_report(evaluation, evaluation.done, contaminated) if evaluation.done else {}
        evaluation.finish()
    found: dict[str, str] = made
    return found


if __name__ == "__main__":
    evaluate_olmo()
