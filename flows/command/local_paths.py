"""Paths in the parameters of a flow run, as somebody in a directory means them: a worker stands in another one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.command.usage import UsageError
from olmo_core.curation.variants import MARK

_RECIPES = (".yaml", ".yml")
_FILES = ("recipe", "data")
"""Parameters of our flows that name a file of this machine; a recipe without such an ending is a name, whatever file has it, too."""
_FOLDERS = ("models",)
"""Lists of checkpoints, Hugging Face names, and folders of this machine."""


def made_absolute(parameters: Mapping[str, Any], directory: Path, project: Path) -> dict[str, Any]:
    """Return the parameters with the relative paths of files in `directory` made absolute.

    `project`: where the worker stands; a path that leads to something from there only stays as it is. Raises UsageError for a
    relative path of a YAML file that is in neither. Absolute ones are not looked for: a worker may be on another machine.
    """
    found = dict(parameters)
    for name in _FILES:
        if isinstance(value := found.get(name), str):
            path, mark, variant = value.partition(MARK)
            found[name] = f"{_file(name, path, directory, project)}{mark}{variant}"
    for name in _FOLDERS:
        if isinstance(value := found.get(name), list):
            found[name] = [_folder(one, directory) if isinstance(one, str) else one for one in value]
    return found


def _file(name: str, value: str, directory: Path, project: Path) -> str:
    path = Path(value).expanduser()
    if path.is_absolute() or not value:
        return str(path) if value else value
    if name == "recipe" and path.suffix not in _RECIPES:
        return value
    if (directory / path).is_file():
        return str(directory / path)
    if path.suffix in _RECIPES and not (project / path).is_file():
        raise UsageError(f"{name}={value}: there is no file {directory / path}; nothing was started")
    return value


def _folder(value: str, directory: Path) -> str:
    path = Path(value).expanduser()
    return str(directory / path) if value and (directory / path).is_dir() else value
