"""Rules of the house that a machine can check: layers, file lengths, names, formatting of the public surface."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("olmo_core", "tasks", "flows")
MOST_LINES = 400
FORBIDDEN_NAMES = {"utils", "util", "common", "misc", "manager", "handler", "processor", "helpers"}

MAY_NOT_IMPORT = {
    "olmo_core": {"prefect", "pydantic", "tasks", "flows"},
    "tasks": {"flows"},
}
TORCH_ONLY_IN = ("olmo_core/model", "olmo_core/train", "olmo_core/evaluation")


def modules() -> list[Path]:
    """All Python files of the project's packages and tests."""
    return [p for top in (*PACKAGES, "tests", "benchmarks") for p in sorted((ROOT / top).rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """The top-level names that a file imports anywhere, lazily too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; imports are absolute here"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("package", sorted(MAY_NOT_IMPORT))
def test_layers_point_one_way(package: str) -> None:
    """Flows -> tasks -> olmo_core, and never back."""
    wrong = {
        str(path.relative_to(ROOT)): sorted(found)
        for path in (ROOT / package).rglob("*.py")
        if (found := set(imports(path)) & MAY_NOT_IMPORT[package])
    }
    assert not wrong


def test_reports_do_not_import_the_stages() -> None:
    """The report stage imports `olmo_core.report`, never the reverse; both know how artifacts are laid out."""
    wrong = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "olmo_core" / "report").rglob("*.py")
        if re.search(r"olmo_core\.curation\.(steps|chain)|olmo_core\.curation import .*(steps|chain)", path.read_text())
    ]
    assert not wrong


def test_nothing_below_the_model_imports_torch() -> None:
    """The curation half installs and runs without torch."""
    wrong = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "torch" in set(imports(path)) and not str(path.relative_to(ROOT)).startswith(TORCH_ONLY_IN)
    ]
    assert not wrong


def test_files_are_short() -> None:
    """Over 400 lines is a design fault: split by idea."""
    wrong = {
        str(p.relative_to(ROOT)): n
        for p in modules()
        if (n := len(p.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert not wrong


def test_names_say_what_a_module_holds() -> None:
    """No utils, no managers."""
    wrong = [
        str(p.relative_to(ROOT)) for p in modules() if p.stem in FORBIDDEN_NAMES or p.parent.name in FORBIDDEN_NAMES
    ]
    assert not wrong


def test_flow_modules_shadow_nothing() -> None:
    """Prefect leaves flows/ first on sys.path: a module there may not be called like another importable one."""
    taken = set(sys.stdlib_module_names) | set(importlib.metadata.packages_distributions()) - {*PACKAGES}
    names = {p.stem if p.is_file() else p.name for p in (ROOT / "flows").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert not (names - {"__init__", "__pycache__"}) & taken


def test_modules_say_what_they_are_for() -> None:
    """Every module but an empty package marker begins with a docstring."""
    wrong = [
        str(p.relative_to(ROOT))
        for p in modules()
        if p.read_text(encoding="utf-8").strip() and not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))
    ]
    assert not wrong
