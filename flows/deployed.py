"""The deployments (FLOW/DEPLOYMENT, in prefect.yaml) that other flows and automations start. Imports nothing: the command line reads it."""

from __future__ import annotations

from collections.abc import Mapping

BUILD, TRAIN = "build-dolma/build-dolma", "train-olmo/train-olmo"
EVALUATE: Mapping[str, str] = {"cpu": "evaluate-olmo/evaluate-olmo", "gpu": "evaluate-olmo/evaluate-olmo-gpu"}
"""By work pool: where to evaluate is a resource."""
