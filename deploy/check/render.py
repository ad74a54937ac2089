"""What kustomize makes of the overlays, and of every component on the base."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from check.kinds import DEPLOY

Manifest: TypeAlias = dict[str, Any]
"""One object, as it would be applied."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C, where PyYAML has it: ten times as fast."""
_KUBECTL = Path(sys.executable).with_name("kubectl")
_NEEDS = {
    "autoscaling": ("monitoring",),
    "autoscaling-hpa": ("monitoring",),
    "gpu-mig": ("gpu",),
    "monitoring-service": ("monitoring",),
}
"""Component -> those that it changes or relies on."""
_TOGETHER = (
    *("models-init", "gpu", "rollout-in-place", "monitoring", "monitoring-service", "autoscaling"),
    *("tls", "tokens", "gateway"),
)
"""As many as go together, in an order other than that of the overlays."""


def cases() -> dict[str, tuple[str, ...]]:
    """Name -> the folders that kustomize puts together, beneath ``deploy/``."""
    overlays = {f"overlays/{name}": (f"overlays/{name}",) for name in _folders("overlays")}
    alone = {f"components/{name}": _on_base(*_NEEDS.get(name, ()), name) for name in _folders("components")}
    return overlays | alone | {"all that go together": _on_base(*_TOGETHER)}


def render(folders: tuple[str, ...]) -> list[Manifest]:
    """Put folders together, the first as resource, the others as components.

    Raises:
        subprocess.CalledProcessError: kustomize refuses; its words are in ``stderr``.
    """
    with tempfile.TemporaryDirectory() as name:
        resource, *components = (os.path.relpath(DEPLOY / each, Path(name).resolve()) for each in folders)
        kustomization = {"resources": [resource], "components": components}
        (Path(name) / "kustomization.yaml").write_text(yaml.safe_dump(kustomization), encoding="utf-8")
        command = [str(_KUBECTL), "kustomize", name]
        text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    return [each for each in yaml.load_all(text, _LOADER) if each]


def _folders(parent: str) -> list[str]:
    return sorted(path.parent.name for path in (DEPLOY / parent).glob("*/kustomization.yaml"))


def _on_base(*components: str) -> tuple[str, ...]:
    return ("base", *(f"components/{name}" for name in components))
