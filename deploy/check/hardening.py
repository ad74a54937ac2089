"""Pod Security's restricted standard, and what the namespace's label therefore lets in."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from check.objects import of_kind, pods_of
from check.render import Manifest

_VOLUMES = frozenset(
    {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
"""Kinds of volumes that the standard allows."""
_FROM_HOST = ("hostNetwork", "hostPID", "hostIPC")
_LEAST_USER = 10_000
"""Users below may exist on the node."""


def hardening_problems(objects: Sequence[Manifest]) -> Iterator[str]:
    """Every pod meets the restricted standard, which its namespace enforces, and more: no writable root, no token."""
    for namespace in of_kind(objects, "Namespace"):
        if namespace["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"Namespace/{namespace['metadata']['name']} does not enforce restricted Pod Security"
    for pods in pods_of(objects):
        yield from (f"Deployment/{pods.name}: {problem}" for problem in pod_problems(pods.spec))
        for container in pods.containers:
            yield from (f"Deployment/{pods.name}.{container['name']}: {each}" for each in container_problems(container))


def pod_problems(spec: Mapping[str, Any]) -> Iterator[str]:
    """Say where the specification of a pod lets it do more than it must."""
    context = spec["securityContext"]
    if not context.get("runAsNonRoot") or context.get("runAsUser", 0) < _LEAST_USER:
        yield "runs as root or as a user of the node"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if spec.get("automountServiceAccountToken", True):
        yield "gets a token of the cluster"
    if spec.get("enableServiceLinks", True):
        yield "gets the variables of Services, of which STYLEWIRE_PORT is a setting"
    yield from (f"has {name}" for name in _FROM_HOST if spec.get(name))
    for volume in spec.get("volumes", ()):
        if not (volume.keys() - {"name"}) <= _VOLUMES:
            yield f"the volume {volume['name']} is of a kind that is not allowed"
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"the volume {volume['name']} may fill the node"


def container_problems(container: Mapping[str, Any]) -> Iterator[str]:
    """Say where a container may do more than it must, or its image may change."""
    context, resources = container["securityContext"], container["resources"]
    if context.get("allowPrivilegeEscalation", True) or context.get("privileged"):
        yield "may gain privileges"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "has capabilities"
    if not context.get("readOnlyRootFilesystem"):
        yield "may write to its root"
    if resources["requests"].keys() - resources["limits"].keys():
        yield "requests what it has no limit of"
    if any("nvidia.com" in name for name in resources["requests"]):
        yield "requests a GPU; only limits say so"
    image = container["image"].partition("@")[0]
    if "@sha256:" not in container["image"] and (":" not in image or image.endswith(":latest")):
        yield f"has the image {container['image']}, which is another one tomorrow"
