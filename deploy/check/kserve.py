"""Whether what KServe is told fits the server: its settings, ports, probes, formats, and times to stop."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from check.hardening import container_problems, pod_problems
from check.objects import named, of_kind, variables
from check.render import Manifest, render
from check.schemas import name_of
from check.schemas import problems as schema_problems
from check.server import HEALTH_NAMES, MARGIN_SECONDS
from stylewire.server.config.settings import SettingError, Settings

FOLDER = "kserve"
CONTAINER, MODELS = "kserve-container", Path("/mnt/models")
"""The container that KServe gives a model, and where it puts it."""
PROTOCOLS = {"grpc-v2"}
"""What the server speaks, in KServe's words."""


def objects() -> list[Manifest]:
    """Render what is for KServe."""
    return render((FOLDER,))


def kserve_problems(found: Sequence[Manifest]) -> Iterator[str]:
    """Everything that is wrong with runtimes, and with models on them."""
    for each in found:
        yield from schema_problems(each)
    for runtime in of_kind(found, "ServingRuntime"):
        yield from (f"{name_of(runtime)}: {problem}" for problem in _runtime_problems(runtime))
    for service in of_kind(found, "InferenceService"):
        runtime_name = service["spec"]["predictor"]["model"]["runtime"]
        wanted = named(found, "ServingRuntime", runtime_name)
        wrong = _service_problems(service, wanted) if wanted else [f"there is no ServingRuntime {runtime_name}"]
        yield from (f"{name_of(service)}: {problem}" for problem in wrong)


def _settings(runtime: Manifest) -> Settings:
    """What the server reads from its environment, by its own reading."""
    with mock.patch.dict(os.environ, variables((), _container(runtime)), clear=True):
        return Settings.load([])


def _container(runtime: Manifest) -> Mapping[str, Any]:
    found: Mapping[str, Any] = runtime["spec"]["containers"][0]
    return found


def _runtime_problems(runtime: Manifest) -> Iterator[str]:
    spec, container = runtime["spec"], _container(runtime)
    if [each["name"] for each in spec["containers"]] != [CONTAINER]:
        yield f"KServe looks for the one container {CONTAINER}"
    if not spec["protocolVersions"] or not set(spec["protocolVersions"]) <= PROTOCOLS:
        yield f"it promises {spec['protocolVersions']}, the server speaks {sorted(PROTOCOLS)}"
    yield from container_problems(container)
    yield from _volume_problems(runtime)
    try:
        settings = _settings(runtime)
    except SettingError as err:
        yield str(err)
        return
    if settings.models != MODELS:
        yield f"STYLEWIRE_MODELS is {settings.models}, KServe puts the model at {MODELS}"
    yield from _port_problems(runtime, settings)


def _volume_problems(runtime: Manifest) -> Iterator[str]:
    container = _container(runtime)
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    if mounted.keys() != {each["name"] for each in runtime["spec"]["volumes"] if "emptyDir" in each}:
        yield f"mounts {sorted(mounted)}, which are not its volumes"
    if variables((), container).get("XDG_CACHE_HOME") not in mounted.values():
        yield "XDG_CACHE_HOME is no folder that can be written: the root is read-only"


def _port_problems(runtime: Manifest, settings: Settings) -> Iterator[str]:
    container = _container(runtime)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    if ports != {"h2c": settings.port, "metrics": settings.metrics_port}:
        yield f"has the ports {ports}, the settings say others"
    if runtime["spec"]["annotations"]["prometheus.io/port"] != str(settings.metrics_port):
        yield "Prometheus is sent to another port than that of the metrics"
    alive, ready = HEALTH_NAMES
    for name, service in {"startupProbe": ready, "readinessProbe": ready, "livenessProbe": alive}.items():
        asked = container[name]["grpc"]
        if (asked["service"], asked["port"]) != (service, settings.port):
            yield f"{name} asks for the health of {asked}, not of {service!r}"


def _service_problems(service: Manifest, runtime: Manifest) -> Iterator[str]:
    predictor = service["spec"]["predictor"]
    model = predictor["model"]
    formats = [(each["name"], each["version"]) for each in runtime["spec"]["supportedModelFormats"]]
    if (model["modelFormat"]["name"], model["modelFormat"]["version"]) not in formats:
        yield f"its runtime does not take the format {model['modelFormat']}"
    if model["protocolVersion"] not in runtime["spec"]["protocolVersions"]:
        yield f"its runtime does not speak {model['protocolVersion']}"
    # Volumes are the runtime's; KServe puts both together.
    yield from pod_problems({**predictor, "volumes": runtime["spec"]["volumes"]})
    try:
        settings = _settings(runtime)
    except SettingError:  # said of the runtime
        return
    stop = settings.drain_seconds + settings.grace_seconds
    if predictor["terminationGracePeriodSeconds"] < stop + MARGIN_SECONDS:
        yield f"stopping takes {stop:g} s, too long for terminationGracePeriodSeconds"
