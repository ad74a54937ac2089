"""Whether scaling and alerts ask for what the server exports, and scaling does what it should."""

from collections.abc import Iterator, Sequence

from check.exports import exported, query_problems
from check.objects import named, of_kind
from check.render import Manifest
from check.schemas import name_of
from check.server import server_settings
from stylewire.server.config.settings import SettingError


def scaling_problems(objects: Sequence[Manifest]) -> Iterator[str]:
    """What scales exists, has room, reacts before requests are refused, and nothing else sets the count."""
    scalers = list(of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject"))
    if len(scalers) > 1:
        yield "two objects scale the same pods: " + ", ".join(map(name_of, scalers))
    for scaler in scalers:
        target = named(objects, "Deployment", scaler["spec"]["scaleTargetRef"]["name"])
        if target is None:
            yield f"{name_of(scaler)} scales a Deployment that does not exist"
        elif "replicas" in target["spec"]:
            yield f"{name_of(scaler)}: its Deployment sets replicas, which every apply would go back to"
        least, most, threshold = bounds(scaler)
        if not 1 <= least < most:
            yield f"{name_of(scaler)}: between {least} and {most} pods is no room"
        if not 0 < threshold < _refusal_seconds(objects):
            yield f"{name_of(scaler)}: at a backlog of {threshold:g} s requests are refused already"


def query_name_problems(objects: Sequence[Manifest]) -> Iterator[str]:
    """Rules and scalers ask for metrics and labels that the server exports or that a rule records."""
    rules = [
        rule
        for each in of_kind(objects, "PrometheusRule")
        for group in each["spec"]["groups"]
        for rule in group["rules"]
    ]
    # What is recorded has the labels that its expression leaves; they are asked in Prometheus' own tests.
    records = {rule["record"]: frozenset[str]() for rule in rules if "record" in rule}
    expressions = {rule.get("alert") or rule["record"]: rule["expr"] for rule in rules}
    for scaler in of_kind(objects, "ScaledObject"):
        expressions |= {f"{name_of(scaler)}": each["metadata"]["query"] for each in scaler["spec"]["triggers"]}
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        expressions |= {name_of(scaler): each["pods"]["metric"]["name"] for each in scaler["spec"]["metrics"]}
    known = {**exported(), **records}
    for name, expression in expressions.items():
        yield from (f"{name}: {problem}" for problem in query_problems(expression, known))


def bounds(scaler: Manifest) -> tuple[int, int, float]:
    """Least and most pods, and the backlog of a pod that it aims at."""
    spec = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        return spec["minReplicaCount"], spec["maxReplicaCount"], float(spec["triggers"][0]["metadata"]["threshold"])
    return spec["minReplicas"], spec["maxReplicas"], float(spec["metrics"][0]["pods"]["target"]["averageValue"])


def _refusal_seconds(objects: Sequence[Manifest]) -> float:
    """The backlog at which requests are refused; unlimited where the settings are wrong, which is said elsewhere."""
    try:
        return server_settings(objects).max_queue_seconds
    except SettingError:
        return float("inf")
