"""EVAL.json: what an evaluating process is told. `python -m olmo_core.evaluation EVAL.json` needs nothing else.

Exit codes: 0 done, 75 asked to end (run it again: what was scored is kept), 1 anything that a rerun would not mend.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olmo_core.errors import RecipeError
from olmo_core.evaluation.recipe import EvaluationRecipe, evaluation_recipe
from olmo_core.evaluation.resources import ScoringResources
from olmo_core.recipe import canonical, from_mapping


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """One evaluation of one or several models, as a process sees it."""

    store: str
    """URI of the artifact store."""
    models: tuple[str, ...]
    """Checkpoints (`checkpoint/tiny@step*`), Hugging Face folders or ids; see `targets.find_targets`."""
    recipe: EvaluationRecipe
    resources: ScoringResources = field(default_factory=ScoringResources)
    own_files: Mapping[str, str] = field(default_factory=dict)
    """Files to read in place of assets, by the assets' names."""

    def to_json(self) -> str:
        """Return the text of EVAL.json."""
        values = {name: canonical(getattr(self, name)) for name in self.__dataclass_fields__}
        return json.dumps(values, indent=1, sort_keys=True, ensure_ascii=False)


def read_evaluation_run(path: str | Path) -> EvaluationRun:
    """Return the evaluation of an EVAL.json. Raises RecipeError, naming the field, when it is not one."""
    try:
        data: Any = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read the evaluation file {path}: {error}") from error
    except ValueError as error:
        raise RecipeError(f"the evaluation file {path} is not JSON: {error}") from error
    if not isinstance(data, Mapping) or "recipe" not in data:
        raise RecipeError(f"the evaluation file {path} holds no object with a `recipe`")
    recipe = evaluation_recipe(data["recipe"], f"{path}: recipe")
    return from_mapping(EvaluationRun, {**data, "recipe": recipe}, str(path))
