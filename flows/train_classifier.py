"""train-classifier: a sentence classifier (toxicity, quality, ...) from labelled texts, as a `model` artifact.

The labelled file enters through an inventory; the classifier is trained deterministically and measured on texts held
out by hash; the model is published with its metrics and tagged, and a corpus recipe uses it by its address:

    content: {kind: classifier, classifiers: [{name: toxic, model: model/toxic-tweets@latest, label: toxic}]}
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from tasks.classifier import publish_classifier, train
from tasks.session import Resources


def run_name() -> str:
    """Name a run by its recipe and the beginning of its id."""
    recipe = str(flow_run.parameters.get("recipe", "")).rsplit("/", 1)[-1].removesuffix(".yaml")
    return f"{recipe}-{str(flow_run.id or '')[:8]}"


@flow(name="train-classifier", flow_run_name=run_name, persist_result=False)
def train_classifier(
    recipe: str = "toxic-tweets", data: str | None = None, resources: Resources | None = None
) -> dict[str, str]:
    """Train, measure and publish a classifier.

    Args:
        recipe: Name of a recipe (`deployments/recipes/classifiers/{name}.yaml`) or path of a YAML file.
        data: File of labelled texts to use instead of the recipe's.
        resources: Where and how the run works; changes nothing about what comes out.
    """
    model: Any = train(recipe, data, resources or Resources())
    return publish_classifier(model, resources or Resources())


if __name__ == "__main__":
    train_classifier()
