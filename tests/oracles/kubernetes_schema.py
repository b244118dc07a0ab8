"""Write the schema of what Kubernetes takes as Job, Service and ConfigMap, as far as our manifests go into it.

    python tests/oracles/kubernetes_schema.py [--out tests/launch/golden/kubernetes.json]

Kubernetes publishes its types in its client (kubernetes 37.0.2 from PyPI, Apache-2.0, made from the API of release 1.37);
it is put into a temporary folder, never beside us. Of types that our manifests do not use only the names stay,
in `properties` of those that do; unknown properties are refused.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSION = "37.0.2"
KINDS = {"Job": "V1Job", "Service": "V1Service", "ConfigMap": "V1ConfigMap"}
USED = {
    "V1Job", "V1JobSpec", "V1PodTemplateSpec", "V1ObjectMeta", "V1PodSpec", "V1Container", "V1EnvVar", "V1EnvFromSource",
    "V1SecretEnvSource", "V1ResourceRequirements", "V1VolumeMount", "V1Volume", "V1ConfigMapVolumeSource",
    "V1EmptyDirVolumeSource", "V1PersistentVolumeClaimVolumeSource", "V1Service", "V1ServiceSpec", "V1ServicePort",
    "V1ConfigMap",
}  # fmt: skip


def main() -> None:
    """Fetch, read the types, write the schema."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "launch" / "golden" / "kubernetes.json")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "-q", "--target", folder, f"kubernetes=={VERSION}"]
        subprocess.run(install, check=True)
        sys.path.insert(0, folder)
        found: dict[str, Any] = {}
        for kind, name in KINDS.items():
            module = importlib.import_module(f"kubernetes.client.models.{''.join(snake(name))}")
            schema = getattr(module, name).model_json_schema(by_alias=True)
            definitions = {**schema.pop("$defs", {}), name: schema}
            found[kind] = {
                "$ref": f"#/$defs/{name}",
                "$defs": {key: pruned(value) if key in USED else {} for key, value in definitions.items()},
            }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def snake(name: str) -> Iterator[str]:
    """`V1ConfigMap` as the name of its module, `v1_config_map`."""
    for i, letter in enumerate(name):
        yield f"_{letter.lower()}" if letter.isupper() and i else letter.lower()


def pruned(schema: dict[str, Any]) -> dict[str, Any]:
    """A type's properties without descriptions; unknown ones are refused."""
    properties = {name: without_words(one) for name, one in schema.get("properties", {}).items()}
    return {
        "type": "object",
        "properties": properties,
        "required": schema.get("required", []),
        "additionalProperties": False,
    }


def without_words(schema: Any) -> Any:
    """A schema without titles, descriptions and defaults."""
    if isinstance(schema, dict):
        return {k: without_words(v) for k, v in schema.items() if k not in ("title", "description", "default")}
    return [without_words(one) for one in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    main()
