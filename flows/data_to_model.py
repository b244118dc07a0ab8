"""data-to-model: raw text in, an evaluated model out, and a summary that explains it.

The chain is build-dolma, train-olmo, evaluate-olmo; each gets the artifacts that the one before has made, by their
addresses. As a deployment it starts the deployments of its stages, each once: a retry of this run finds what is running,
takes what is done and retries what failed, and any of them can be retried alone. Without a deployment (`olmo run
data-to-model`) they are subflows of this process. What exists already is reused in both.
"""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.build_dolma import build_dolma
from flows.deployed import BUILD, EVALUATE, TRAIN
from flows.evaluate_olmo import evaluate_olmo
from flows.train_olmo import train_olmo
from tasks.children import run_stage
from tasks.data_to_model import ChainResources, ask, chain_title, open_chain, publish_chain


def run_name() -> str:
    """Name a run by its recipe and the beginning of its id."""
    return f"{chain_title(flow_run.parameters)}-{str(flow_run.id or '')[:8]}"


@flow(name="data-to-model", flow_run_name=run_name, persist_result=False)
def data_to_model(recipe: str = "quickstart", resources: ChainResources | None = None) -> dict[str, str]:
    """Make a corpus, train a model on it, evaluate it, and tell what came out.

    Args:
        recipe: Name of a recipe (`deployments/recipes/data-to-model/{name}.yaml`) or path of a YAML file.
        resources: Where and how the stages work; changes nothing about what comes out.
    """
    chain = open_chain(recipe, resources)
    corpus = run_stage(build_dolma, BUILD, "corpus", chain.corpus)
    run = run_stage(train_olmo, TRAIN, after("training", corpus["tokens"]), chain.training(corpus))
    asked: Any = ask(chain.recipe.evaluation, corpus, run, chain.resources)
    where, scored = EVALUATE[chain.resources.evaluate_on], after("evaluation", run["checkpoint"])
    evaluation = run_stage(evaluate_olmo, where, scored, chain.evaluation(asked))
    return publish_chain(chain, corpus, run, evaluation)


def after(stage: str, ref: str) -> str:
    """Name a stage by what it works on: were that another artifact on a retry, it would be another stage, too."""
    return f"{stage}/{ref.rpartition('/')[2]}"


if __name__ == "__main__":
    data_to_model()
