"""Finding objects among those of a case: by kind, by selector, and the pods that they make."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from check.render import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """The pods of a Deployment.

    Attributes:
        owner: the Deployment.
        labels: of the pods.
        spec: of the pods.
    """

    owner: Manifest
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The Deployment's name."""
        return str(self.owner["metadata"]["name"])

    @property
    def containers(self) -> tuple[Mapping[str, Any], ...]:
        """All containers, those that run before the others too."""
        return (*self.spec.get("initContainers", ()), *self.spec["containers"])

    @property
    def ports(self) -> Mapping[str, int]:
        """Name -> number of every port."""
        return {port["name"]: port["containerPort"] for each in self.containers for port in each.get("ports", ())}

    def has_port(self, port: str | int) -> bool:
        """Whether a port exists, by name or by number."""
        return port in self.ports or port in self.ports.values()


def of_kind(objects: Iterable[Manifest], *kinds: str) -> Iterator[Manifest]:
    """The objects of some kinds."""
    return (each for each in objects if each["kind"] in kinds)


def named(objects: Iterable[Manifest], kind: str, name: str) -> Manifest | None:
    """The object of a kind and name, if there is one."""
    return next((each for each in of_kind(objects, kind) if each["metadata"]["name"] == name), None)


def pods_of(objects: Iterable[Manifest]) -> list[Pods]:
    """The pods of all Deployments."""
    templates = [(owner, owner["spec"]["template"]) for owner in of_kind(objects, "Deployment")]
    return [
        Pods(owner=owner, labels=template["metadata"]["labels"], spec=template["spec"]) for owner, template in templates
    ]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector, or the plain map that a Service has, fits labels.

    Raises:
        ValueError: the selector has expressions, which no manifest here needs.
    """
    if "matchExpressions" in selector:
        raise ValueError("matchExpressions are not understood here; use matchLabels")
    wanted = selector.get("matchLabels", {}) if "matchLabels" in selector or not selector else selector
    return wanted.items() <= labels.items()


def variables(objects: Iterable[Manifest], container: Mapping[str, Any]) -> dict[str, str]:
    """The environment that a container gets, from ConfigMaps and of its own."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        config = named(objects, "ConfigMap", source["configMapRef"]["name"])
        found |= config["data"] if config else {}
    return found | {each["name"]: each["value"] for each in container.get("env", ())}


def service_problem(objects: Iterable[Manifest], service: str, port: int) -> str:
    """Say why nothing listens on a port of a Service; empty if something does."""
    found = named(objects, "Service", service)
    if not found:
        return f"there is no Service {service}"
    if port not in [each["port"] for each in found["spec"]["ports"]]:
        return f"Service {service} has no port {port}"
    return ""
