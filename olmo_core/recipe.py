"""Recipes: the frozen parameters that decide what comes out, their canonical JSON, and fingerprints.

A recipe is a frozen, keyword-only dataclass. `canonical` turns it into plain JSON values or raises; `fingerprint`
hashes that. `from_mapping` reads the same dataclass back from YAML or JSON and refuses unknown fields and wrong types
by their dotted path. Where and how a recipe runs (workers, prefix, host) is not part of it.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from olmo_core.errors import RecipeError

T = TypeVar("T")

LATER: Mapping[str, Any] = {"canonical": "unless default"}
"""Metadata of a field that came later: at its default it is left out of the canonical form, so that recipes without it
keep their fingerprints, and with them the artifacts made before there was such a field."""
SIGNS: Mapping[str, str] = {
    "sources": "build-dolma",
    "corpus": "data-to-model",
    "model": "train-olmo",
    "variants": "ablate-data",
    "labels": "train-classifier",
    "benchmarks": "evaluate-olmo",
    "domains": "evaluate-olmo",
}
"""Field at the top of the recipes of one flow only -> that flow. Each recipe has one."""


def canonical(value: Any, path: str = "recipe") -> Any:
    """Return `value` as plain JSON values (dict, list, str, int, float, bool, None).

    Raises RecipeError, naming the path, for what has no canonical form: NaN, infinities, sets, bytes, non-string keys.
    Minus zero becomes zero. Dataclasses become objects with all their fields, defaults included except where a field
    is marked LATER.
    """
    if value is None or isinstance(value, str | bool):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Enum):
        return canonical(value.value, path)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RecipeError(f"{path}: {value} has no canonical form; give a finite number")
        return 0.0 if value == 0 else float(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        present = [f for f in dataclasses.fields(value) if f.metadata != LATER or getattr(value, f.name) != f.default]
        return {f.name: canonical(getattr(value, f.name), f"{path}.{f.name}") for f in present}
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise RecipeError(f"{path}: key {key!r} is not a string")
        return {key: canonical(value[key], f"{path}.{key}") for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [canonical(item, f"{path}[{i}]") for i, item in enumerate(value)]
    raise RecipeError(
        f"{path}: a {type(value).__name__} has no canonical form; use numbers, strings, lists or mappings"
    )


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, UTF-8 characters as they are."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: Any) -> str:
    """Return the sha256 (64 hex digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


def from_mapping(cls: type[T], data: Any, path: str = "recipe") -> T:
    """Return a `cls` from plain values, refusing unknown fields, missing fields and wrong types.

    Numbers: an integer is accepted where a float is asked for, never the other way round. A union of dataclasses is
    told apart by the field whose Literal type differs (`reader: parquet`, `kind: lexicon`).
    Raises RecipeError naming the dotted path, the value seen, and the nearest field names.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{path}: expected a mapping with the fields of {cls.__name__}, found {data!r}")
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise RecipeError(
                f"{path}: unknown field {key!r}{hint} Fields here: {', '.join(fields)}{_of_another_kind(data, fields, path)}"
            )
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{path}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise RecipeError(f"{path}: field {name!r} is missing")
    return cls(**values)


def flow_of(data: Any) -> str | None:
    """Return the flow whose recipe a whole file's content is, by its fields; None where they do not tell."""
    return next((flow for sign, flow in SIGNS.items() if isinstance(data, Mapping) and sign in data), None)


def _of_another_kind(data: Mapping[str, Any], fields: Collection[str], path: str) -> str:
    """What to tell where a whole file, not a part of one, has the fields of another kind of recipe."""
    found = [sign for sign in SIGNS if sign in data]
    if not path.endswith((".yaml", ".yml")) or not found or any(sign in fields for sign in found):
        return ""
    flow = SIGNS[found[0]]
    command = "olmo evaluate MODEL --recipe FILE" if flow == "evaluate-olmo" else f"olmo run {flow} FILE"
    return f". By its field {found[0]!r} this is a recipe of {flow}, which `{command}` takes"


def _value(kind: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        return _union(typing.get_args(kind), value, path)
    if origin is Literal:
        options = typing.get_args(kind)
        if value not in options:
            raise RecipeError(f"{path}: {value!r} is not one of {', '.join(map(repr, options))}")
        return value
    if origin in (tuple, list, Sequence):
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise RecipeError(f"{path}: expected a list, found {value!r}")
        item = typing.get_args(kind)[0]
        return tuple(_value(item, v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise RecipeError(f"{path}: expected a mapping, found {value!r}")
        item = typing.get_args(kind)[1]
        return {str(k): _value(item, v, f"{path}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(kind):
        if isinstance(value, typing.cast(type, kind)):
            return value
        return from_mapping(typing.cast(type, kind), value, path)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Any:
        return value
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise RecipeError(f"{path}: expected {kind.__name__}, found {value!r}")
    return value


def _union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in options:
        return None
    classes = [o for o in options if dataclasses.is_dataclass(o)]
    if any(isinstance(value, typing.cast(type, c)) for c in classes):
        return value
    if classes and isinstance(value, Mapping):
        if len(classes) == 1:
            return from_mapping(typing.cast(type, classes[0]), value, path)
        return from_mapping(_told_apart(classes, value, path), value, path)
    errors = []
    for option in options:
        if option is type(None) or option in classes:
            continue
        try:
            return _value(option, value, path)
        except RecipeError as error:
            errors.append(str(error))
    raise RecipeError(errors[0] if errors else f"{path}: expected a mapping, found {value!r}")


def _told_apart(classes: Sequence[Any], value: Mapping[str, Any], path: str) -> Any:
    first = typing.get_type_hints(classes[0])
    for field, kind in first.items():
        if typing.get_origin(kind) is not Literal:
            continue
        by_option = {o: c for c in classes for o in typing.get_args(typing.get_type_hints(c).get(field, None))}
        if len(by_option) < len(classes):
            continue
        chosen = value.get(field)
        if chosen not in by_option:
            raise RecipeError(f"{path}.{field}: {chosen!r} is not one of {', '.join(map(repr, by_option))}")
        return by_option[chosen]
    raise RecipeError(f"{path}: cannot tell {', '.join(c.__name__ for c in classes)} apart")


def read_yaml(path: Path) -> Any:
    """Return the values of a YAML file. Raises RecipeError with the line where it cannot be parsed or read."""
    import yaml  # here: a machine that only measures training (olmo_core.train.bench) may not have it

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(
            f"no recipe file {path}; give the path of a YAML file, or the name of one in deployments/recipes"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"cannot read recipe {path}: {error}") from error
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {path} is not YAML: {error}") from error


def recipe_file(name_or_path: str, folder: Path, what: str = "recipe") -> Path:
    """Return the file of a recipe: `folder/{name}.yaml` for a name, a YAML file's path as it is.

    Raises RecipeError, listing the names there are, for a name or a file that is none; `what` it calls the recipe.
    """
    path = Path(name_or_path)
    of_file = path.suffix in (".yaml", ".yml")
    path = path if of_file else folder / f"{name_or_path}.yaml"
    if not path.exists():
        names = sorted(one.stem for one in folder.glob("*.yaml"))
        raise RecipeError(
            f"no {what} {f'file {path}' if of_file else repr(name_or_path)}; there are: {', '.join(names) or 'none'}; "
            f"or give the path of a .yaml file"
        )
    return path


def beside(file: Path, name_or_path: str) -> str:
    """Return the path of a recipe that lies beside the file which names it; a name, or another path, as it is."""
    near = file.parent / name_or_path
    return str(near) if name_or_path.endswith((".yaml", ".yml")) and near.is_file() else name_or_path


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Return the dotted paths at which two canonical values differ, with both values, for `olmo plan`."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for key in sorted(old.keys() | new.keys()):
            inner = f"{path}.{key}" if path else key
            if key not in old:
                found.append(f"{inner}: added {json.dumps(new[key], ensure_ascii=False)[:60]}")
            elif key not in new:
                found.append(f"{inner}: removed")
            else:
                found.extend(differences(old[key], new[key], inner))
        return found
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, (a, b) in enumerate(zip(old, new, strict=True)) for d in differences(a, b, f"{path}[{i}]")]
    if old == new and type(old) is type(new):
        return []
    shown = [json.dumps(v, ensure_ascii=False)[:60] for v in (old, new)]
    return [f"{path}: {shown[0]} -> {shown[1]}"]
