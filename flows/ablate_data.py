"""ablate-data: what a change of the data does to a model, with intervals.

N variants of a corpus recipe are built (stages that they share once, as an artifact that exists is reused), for each of
them and each seed a small model is trained on the same number of tokens, all models are scored on the first variant's
held-out text, and one table says how much each variant differs from the first, how sure that is and what it has cost.
"""

from __future__ import annotations

from prefect import flow
from prefect.runtime import flow_run

from flows.build_dolma import build_dolma
from flows.data_to_model import after
from flows.deployed import BUILD, EVALUATE, TRAIN
from flows.evaluate_olmo import evaluate_olmo
from flows.train_olmo import train_olmo
from tasks.ablation import ablation_title, compare_corpora, open_ablation, publish_ablation
from tasks.children import run_stage
from tasks.data_to_model import ChainResources


def run_name() -> str:
    """Name a run by its recipe and the beginning of its id."""
    return f"{ablation_title(flow_run.parameters)}-{str(flow_run.id or '')[:8]}"


@flow(name="ablate-data", flow_run_name=run_name, persist_result=False)
def ablate_data(recipe: str = "raw-against-curated", resources: ChainResources | None = None) -> dict[str, str]:
    """Compare variants of a corpus by the models that learn from them.

    Args:
        recipe: Name of a recipe (`deployments/recipes/ablate-data/{name}.yaml`) or path of a YAML file.
        resources: Where and how the stages work; changes nothing about what comes out.
    """
    ablation = open_ablation(recipe, resources)
    corpora = {
        variant: run_stage(build_dolma, BUILD, f"corpus/{variant}", ablation.corpus(variant))
        for variant in ablation.recipe.names
    }
    compare_corpora(ablation, corpora)
    runs = {
        (variant, seed): run_stage(
            train_olmo,
            TRAIN,
            after(f"training/{variant}/{seed}", corpora[variant]["tokens"]),
            ablation.training(variant, seed, corpora),
        )
        for variant, seed in ablation.models
    }
    last = list(runs.values())[-1]["checkpoint"]
    asked = ablation.evaluation({f"{v} {s}": made for (v, s), made in runs.items()}, corpora)
    evaluation = run_stage(evaluate_olmo, EVALUATE[ablation.resources.evaluate_on], after("evaluation", last), asked)
    return publish_ablation(ablation, corpora, runs, evaluation)


if __name__ == "__main__":
    ablate_data()
