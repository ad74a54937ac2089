"""Whether objects are what the API servers take: built-in kinds for several versions, and custom resources.

Strict: a field that the schema does not know is an error, as with ``kubectl apply --validate=strict``. Rules written in
CEL (a few in GRPCRoute) are not run.
"""

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate

from check.kinds import CUSTOM_KINDS, SCHEMAS, VERSIONS
from check.render import Manifest

_CUSTOM = {(f"{group}/{version}", kind) for group, version, kind in CUSTOM_KINDS}


def problems(manifest: Manifest) -> tuple[str, ...]:
    """Say what is wrong with an object."""
    return _problems(json.dumps(manifest, sort_keys=True))  # most objects are in many cases, and validation is slow


@cache
def _problems(text: str) -> tuple[str, ...]:
    manifest = json.loads(text)
    custom = (manifest["apiVersion"], manifest["kind"]) in _CUSTOM
    return tuple(_custom_problems(manifest) if custom else _builtin_problems(manifest))


def _builtin_problems(manifest: Manifest) -> Iterator[str]:
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as err:
            yield f"{name_of(manifest)} in Kubernetes {version}: {getattr(err, 'message', err)}"


def name_of(manifest: Manifest) -> str:
    """Name an object as kubectl does."""
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def _custom_problems(manifest: Manifest) -> Iterator[str]:
    for error in _validator(manifest["kind"]).iter_errors(manifest):
        yield f"{name_of(manifest)}: {error.json_path}: {error.message}"


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{kind.lower()}.json").read_text(encoding="utf-8"))
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return jsonschema.Draft202012Validator(_closed(schema))


def _closed(schema: Any) -> Any:
    """Forbid the fields that an API server would drop."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    open_ended = {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & schema.keys()
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        closed["additionalProperties"] = False
    return closed
