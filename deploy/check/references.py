"""Whether what one object says of another is true: selectors, ports, volumes and names."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from check.objects import Pods, named, of_kind, pods_of, selects, service_problem
from check.render import Manifest
from check.schemas import name_of

GIVEN_SECRETS = {"stylewire-tokens"}
"""Secrets that a person makes, as a component's first lines say."""
_CLUSTER_WIDE = ("Namespace", "PriorityClass")


def selector_problems(objects: Sequence[Manifest]) -> Iterator[str]:
    """Every selector finds what it is for, and every pod has a budget and a network policy."""
    every = pods_of(objects)
    for pods in every:
        own = [pods.owner["spec"]["selector"]]
        own += [each["labelSelector"] for each in pods.spec.get("topologySpreadConstraints", ())]
        if not all(selects(each, pods.labels) for each in own):
            yield f"Deployment/{pods.name} does not select its own pods"
    for each, selector in _pod_selectors(objects):
        if not any(selects(selector, pods.labels) for pods in every):
            yield f"{name_of(each)} selects no pods"
    for monitor in of_kind(objects, "ServiceMonitor"):
        if not _monitored(objects, monitor):
            yield f"{name_of(monitor)} selects no Service"
    for pods in every:
        for kind in ("PodDisruptionBudget", "NetworkPolicy"):
            found = [
                each for each, selector in _pod_selectors(of_kind(objects, kind)) if selects(selector, pods.labels)
            ]
            if len(found) != 1:
                yield f"Deployment/{pods.name} has {len(found)} objects of kind {kind}; it needs one"


def port_problems(objects: Sequence[Manifest]) -> Iterator[str]:
    """Every port that is named somewhere exists where it is said to be."""
    for pods in pods_of(objects):
        asked = [
            (name_of(each), port)
            for each, selector in _pod_selectors(objects)
            if selects(selector, pods.labels)
            for port in _ports_of_pods(each)
        ]
        for name, port in [*asked, *_probes(pods)]:
            if not pods.has_port(port):
                yield f"{name}: Deployment/{pods.name} has no port {port}"
    for monitor in of_kind(objects, "ServiceMonitor"):
        names = [port["name"] for service in _monitored(objects, monitor) for port in service["spec"]["ports"]]
        yield from (
            f"{name_of(monitor)}: no Service has a port {each['port']}"
            for each in monitor["spec"]["endpoints"]
            if each["port"] not in names
        )
    for route in of_kind(objects, "GRPCRoute"):
        for backend in (each for rule in route["spec"]["rules"] for each in rule["backendRefs"]):
            if problem := service_problem(objects, backend["name"], backend["port"]):
                yield f"{name_of(route)}: {problem}"


def name_problems(objects: Sequence[Manifest]) -> Iterator[str]:
    """Every ConfigMap, Secret, claim, account and class that a pod names exists, and all are in one namespace."""
    secrets = GIVEN_SECRETS | {each["spec"]["secretName"] for each in of_kind(objects, "Certificate")}
    for pods in pods_of(objects):
        for kind, name in _names(pods):
            known = name in secrets if kind == "Secret" else named(objects, kind, name)
            if not known:
                yield f"Deployment/{pods.name} needs {kind}/{name}, which does not exist"
        yield from _volume_problems(pods)
    namespaces = [each["metadata"]["name"] for each in of_kind(objects, "Namespace")]
    for each in objects:
        namespace = each["metadata"].get("namespace")
        if each["kind"] not in _CLUSTER_WIDE and namespace not in namespaces:
            yield f"{name_of(each)} is in the namespace {namespace}, which is not {' or '.join(namespaces)}"
    kinds = [(each["kind"], each["metadata"]["name"]) for each in objects]
    yield from (f"{kind}/{name} is there twice" for kind, name in set(kinds) if kinds.count((kind, name)) > 1)


def _pod_selectors(objects: Iterator[Manifest] | Sequence[Manifest]) -> Iterator[tuple[Manifest, Mapping[str, Any]]]:
    for each in objects:
        match each["kind"]:
            case "Service" | "PodDisruptionBudget" | "PodMonitor":
                yield each, each["spec"]["selector"]
            case "NetworkPolicy":
                yield each, each["spec"]["podSelector"]


def _ports_of_pods(each: Manifest) -> list[str | int]:
    """Ports of the selected pods that an object speaks of."""
    match each["kind"]:
        case "Service":
            return [port["targetPort"] for port in each["spec"]["ports"]]
        case "PodMonitor":
            return [endpoint["port"] for endpoint in each["spec"]["podMetricsEndpoints"]]
        case "NetworkPolicy":
            return [port["port"] for rule in each["spec"].get("ingress", ()) for port in rule["ports"]]
        case _:
            return []


def _monitored(objects: Sequence[Manifest], monitor: Manifest) -> list[Manifest]:
    services = of_kind(objects, "Service")
    return [each for each in services if selects(monitor["spec"]["selector"], each["metadata"].get("labels", {}))]


def _probes(pods: Pods) -> Iterator[tuple[str, str | int]]:
    """Probes that the kubelet sends itself, and their ports."""
    for container in pods.containers:
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(name, {})
            if asked := probe.get("grpc") or probe.get("httpGet"):
                yield f"{name} of {container['name']}", asked["port"]


def _names(pods: Pods) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", pods.spec["serviceAccountName"]
    yield "PriorityClass", pods.spec["priorityClassName"]
    for container in pods.containers:
        yield from (("ConfigMap", each["configMapRef"]["name"]) for each in container.get("envFrom", ()))
    for volume in pods.spec.get("volumes", ()):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]


def _volume_problems(pods: Pods) -> Iterator[str]:
    volumes = [volume["name"] for volume in pods.spec.get("volumes", ())]
    mounted = {mount["name"] for container in pods.containers for mount in container.get("volumeMounts", ())}
    if mounted != set(volumes) or len(volumes) != len(mounted):
        yield f"Deployment/{pods.name} mounts {sorted(mounted)} and has the volumes {sorted(volumes)}"
