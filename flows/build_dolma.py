"""Placeholder with the final signature, until the real flow is written."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger


@flow(name="build-dolma")
def build_dolma(recipe: str = "quickstart", overrides: dict[str, Any] | None = None) -> None:
    """Raw text in, versioned tokens out."""
    get_run_logger().info("placeholder for recipe %s with %s", recipe, overrides)
