"""Whether the manifests fit the server: its settings, paths, probes, times and services."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from unittest import mock

from check.objects import Pods, named, of_kind, pods_of, service_problem, variables
from check.render import Manifest
from check.schemas import name_of
from stylewire import oip_pb, pb
from stylewire.server.config.settings import ENV_PREFIX, SettingError, Settings, declarations

HEALTH_NAMES = ("", pb.STYLEGAN_SERVICE)
"""What the server answers health for: alive, and ready."""
SERVER, MARGIN_SECONDS = "stylewire", 10
_SERVICES = {
    each.full_name
    for file in (pb.STYLEGAN_SERVICE_FILE, pb.MODEL_SERVICE_FILE, oip_pb.FILE)
    for each in file.services_by_name.values()
}


def server_pods(objects: Sequence[Manifest]) -> Pods:
    """The pods that run the server."""
    return next(pods for pods in pods_of(objects) if pods.name == SERVER)


def server_settings(objects: Sequence[Manifest]) -> Settings:
    """What the server reads from its environment, by its own reading.

    Raises:
        SettingError: it would not start.
    """
    with mock.patch.dict(os.environ, _environment(objects), clear=True):
        return Settings.load([])


def setting_problems(objects: Sequence[Manifest]) -> Iterator[str]:
    """The server takes the settings, and the files and folders that they name are mounted."""
    try:
        settings = server_settings(objects)
    except SettingError as err:
        yield f"ConfigMap/stylewire-settings: {err}"
        return
    pods = server_pods(objects)
    paths = {name: getattr(settings, name) for _, name, _ in declarations()}
    paths = {name: path for name, path in paths.items() if isinstance(path, Path)}
    for name, path in paths.items():
        if _volume(pods, path) is None:
            yield f"{ENV_PREFIX}{name.upper()} is {path}, where nothing is mounted"
    cache = _volume(pods, Path(_environment(objects).get("XDG_CACHE_HOME", "/")))
    if cache is None or "emptyDir" not in cache:
        yield "XDG_CACHE_HOME is no folder that can be written: the root is read-only"
    if pods.ports != {"grpc": settings.port, "metrics": settings.metrics_port}:
        yield f"Deployment/stylewire has the ports {pods.ports}, the settings say others"
    for address in filter(None, settings.triton_url.split(",")):
        host, _, port = address.rpartition(":")
        if problem := service_problem(objects, host, int(port)):
            yield f"STYLEWIRE_TRITON_URL: {problem}"


def time_problems(objects: Sequence[Manifest]) -> Iterator[str]:
    """A pod has time to start before a rollout is given up, and to stop before it is killed."""
    try:
        settings = server_settings(objects)
    except SettingError:
        return
    for pods in pods_of(objects):
        for container in pods.spec["containers"]:
            probe = container["startupProbe"]
            start = probe["periodSeconds"] * probe["failureThreshold"]
            if start >= pods.owner["spec"]["progressDeadlineSeconds"]:
                yield f"Deployment/{pods.name}: a start may take {start} s, longer than progressDeadlineSeconds"
            stop = _sleep_seconds(container) + (
                settings.drain_seconds + settings.grace_seconds if pods.name == SERVER else _exit_seconds(container)
            )
            if pods.spec["terminationGracePeriodSeconds"] < stop + MARGIN_SECONDS:
                yield f"Deployment/{pods.name}: stopping takes {stop:g} s, too long for terminationGracePeriodSeconds"


def probe_problems(objects: Sequence[Manifest]) -> Iterator[str]:
    """Readiness asks for the service and liveness for the process, under names that the server knows."""
    container = server_pods(objects).spec["containers"][0]
    wanted = {"startupProbe": pb.STYLEGAN_SERVICE, "readinessProbe": pb.STYLEGAN_SERVICE, "livenessProbe": ""}
    for name, service in wanted.items():
        probe = container[name]
        found = probe["grpc"]["service"] if "grpc" in probe else _flag(probe["exec"]["command"], "--service")
        if found != service:
            yield f"{name} asks for the health of {found!r}, not of {service!r}"
        tls = "STYLEWIRE_TLS_CERTIFICATE" in _environment(objects)
        if ("grpc" in probe) == tls:
            yield f"{name}: the kubelet's gRPC probes speak no TLS; with it ask by stylewire-health, else by grpc"
    for certificate in of_kind(objects, "Certificate"):
        yield from _certificate_problems(objects, certificate, container)


def route_problems(objects: Sequence[Manifest]) -> Iterator[str]:
    """Routes name services of the API."""
    for route in of_kind(objects, "GRPCRoute"):
        for match in (each for rule in route["spec"]["rules"] for each in rule["matches"]):
            if match["method"]["service"] not in _SERVICES:
                yield f"{name_of(route)}: there is no service {match['method']['service']}"


def _environment(objects: Sequence[Manifest]) -> dict[str, str]:
    return variables(objects, server_pods(objects).spec["containers"][0])


def _volume(pods: Pods, path: Path) -> Mapping[str, Any] | None:
    """The volume that a path of the server's container is in."""
    for mount in pods.spec["containers"][0]["volumeMounts"]:
        if PurePosixPath(path).is_relative_to(mount["mountPath"]):
            volume: Mapping[str, Any] = next(each for each in pods.spec["volumes"] if each["name"] == mount["name"])
            return volume
    return None


def _sleep_seconds(container: Mapping[str, Any]) -> float:
    return float(container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))


def _exit_seconds(container: Mapping[str, Any]) -> float:
    return float(_flag(container["args"], "--exit-timeout-secs"))


def _flag(arguments: Sequence[str], name: str) -> str:
    return next(each.partition("=")[2] for each in arguments if each.partition("=")[0] == name)


def _certificate_problems(
    objects: Sequence[Manifest], certificate: Manifest, container: Mapping[str, Any]
) -> Iterator[str]:
    names, namespace = certificate["spec"]["dnsNames"], certificate["metadata"]["namespace"]
    for service in (each["metadata"]["name"] for each in of_kind(objects, "Service")):
        if service.startswith("stylewire") and named(objects, "Service", service)["spec"]["ports"][0]["name"] == "grpc":  # type: ignore[index]
            yield from (
                f"{name_of(certificate)} does not name {name}"
                for name in (service, f"{service}.{namespace}", f"{service}.{namespace}.svc")
                if name not in names
            )
    asked = _flag(container["readinessProbe"]["exec"]["command"], "--server-name")
    if asked not in names:
        yield f"probes expect the name {asked}, which {name_of(certificate)} does not have"
