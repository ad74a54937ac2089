"""The manifests, as kustomize renders them: what ``make deploy-check`` prints, and that it would notice."""

import copy
from functools import cache

import pytest
import yaml

from check import hardening, kserve, references, rules, scaling, schemas, server
from check.__main__ import CHECKS
from check.exports import exported, query_problems
from check.kinds import CUSTOM_KINDS, DEPLOY, SCHEMAS
from check.objects import named, pods_of
from check.render import cases, render
from check.scan import CHECKOV, scan

CASES = cases()
KINDS = {kind for _, _, kind in CUSTOM_KINDS}
rendered = cache(render)


@pytest.fixture
def objects():
    """What a test may change: as many components as go together."""
    return copy.deepcopy(rendered(CASES["all that go together"]))


def container(objects, name="stylewire"):
    return next(each for pods in pods_of(objects) for each in pods.containers if each["name"] == name)


def settings(objects):
    return next(each for each in objects if each["metadata"]["name"].startswith("stylewire-settings"))["data"]


def spec(objects, kind, name="stylewire"):
    return named(objects, kind, name)["spec"]


@pytest.mark.parametrize("case", CASES)
def test_case_is_valid_for_every_version(case):
    """Objects have the fields of their kind and no others, in all versions of Kubernetes that are named."""
    found = [problem for each in rendered(CASES[case]) for problem in schemas.problems(each)]

    assert [] == found


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES)
def test_case_agrees_with_itself_and_with_the_server(case, check):
    """What an object says of another, or of the server, is true."""
    assert [] == list(check(rendered(CASES[case])))


def test_checkov_finds_nothing_and_everything_skipped_has_a_reason():
    """The scanner's checks pass, but for those that the manifests leave out and say why."""
    if not CHECKOV.exists():
        pytest.skip(f"{CHECKOV} is not there; make deploy-check installs it")

    found = scan({name: rendered(folders) for name, folders in CASES.items()})

    assert () == found.failed
    assert found.passed > 1000
    assert all(len(reason) > 20 for reasons in found.skipped.values() for reason in reasons)


def test_prometheus_rule_is_what_the_rules_make():
    """The manifest of the rules is current; make manifests writes it."""
    assert rules.manifest() == rules.TARGET.read_text(encoding="utf-8")


def test_prometheus_rule_holds_the_rules_unchanged():
    """The frame changes nothing in the rules."""
    groups = yaml.safe_load(rules.SOURCE.read_text(encoding="utf-8"))["groups"]

    assert groups == spec(rendered(CASES["overlays/gpu"]), "PrometheusRule")["groups"]


def test_overlays_are_short_lists_of_components():
    """An overlay says what it is made of and little else."""
    overlays = sorted((DEPLOY / "overlays").glob("*/*"))

    assert {"dev-cpu", "gpu", "gpu-mig", "gpu-triton"} == {path.parent.name for path in overlays}
    assert {"kustomization.yaml"} == {path.name for path in overlays}
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 12 for path in overlays)


def test_every_component_is_part_of_a_case():
    """No component is left unchecked, and every kind of custom resource is in use."""
    used = {each["kind"] for folders in (*CASES.values(), (kserve.FOLDER,)) for each in rendered(folders)}

    assert used >= KINDS
    assert {path.name for path in (DEPLOY / "components").iterdir()} == {
        name.partition("/")[2] for name in CASES if name.startswith("components/")
    }


def test_schemas_are_those_of_their_kinds():
    """Each vendored schema says which kind it is for, and requires a spec."""
    found = {
        yaml.safe_load(path.read_text())["x-kubernetes-group-version-kind"][0]["kind"]
        for path in SCHEMAS.glob("*.json")
    }

    assert found == KINDS


def test_both_scalers_scale_alike():
    """The HPA is the ScaledObject's twin: same bounds, threshold and behavior."""
    keda = next(each for each in rendered(CASES["components/autoscaling"]) if each["kind"] == "ScaledObject")
    hpa = spec(rendered(CASES["components/autoscaling-hpa"]), "HorizontalPodAutoscaler")

    assert scaling.bounds(keda) == scaling.bounds({"kind": "HorizontalPodAutoscaler", "spec": hpa})
    assert keda["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"] == hpa["behavior"]


def test_adapter_makes_the_metric_that_the_hpa_asks_for():
    """The rule for prometheus-adapter reads a metric of the server and names it as the HPA does."""
    path = DEPLOY / "components" / "autoscaling-hpa" / "prometheus-adapter.yaml"
    rule = yaml.safe_load(path.read_text(encoding="utf-8"))["rules"]["custom"][0]
    hpa = spec(rendered(CASES["components/autoscaling-hpa"]), "HorizontalPodAutoscaler")

    assert rule["name"]["as"] == hpa["metrics"][0]["pods"]["metric"]["name"]
    assert [] == list(query_problems(rule["seriesQuery"], exported()))


@pytest.mark.parametrize("case", ["overlays/gpu-triton", "components/triton"])
def test_servers_in_front_of_triton_find_it(case):
    """With the component the server runs graphs at the Triton beside it, by the name of a headless Service."""
    objects = rendered(CASES[case])
    settings = server.server_settings(objects)
    service = next(each for each in objects if each["kind"] == "Service" and "triton" in each["metadata"]["name"])

    assert ("triton", f"{service['metadata']['name']}:8001") == (settings.backend, settings.triton_url)
    assert "None" == service["spec"]["clusterIP"]


def relabel(objects):
    spec(objects, "Service")["selector"]["app.kubernetes.io/name"] = "other"


def rename_port(objects):
    spec(objects, "Service")["ports"][0]["targetPort"] = "http"


def move_probe(objects):
    spec(objects, "Deployment")["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = 9000


def misspell_setting(objects):
    settings(objects)["STYLEWIRE_MAX_BATCH_SIZ"] = "4"


def misplace_models(objects):
    settings(objects)["STYLEWIRE_MODELS"] = "/elsewhere"


def drain_longer(objects):
    settings(objects)["STYLEWIRE_DRAIN_SECONDS"] = "45"


def start_longer(objects):
    container(objects)["startupProbe"]["failureThreshold"] = 1000


def lose_secret(objects):
    spec(objects, "Certificate")["secretName"] = "other"


def lose_account(objects):
    objects.remove(named(objects, "ServiceAccount", "stylewire"))


def lose_budget(objects):
    objects.remove(named(objects, "PodDisruptionBudget", "stylewire"))


def set_replicas(objects):
    spec(objects, "Deployment")["replicas"] = 2


def scale_late(objects):
    spec(objects, "ScaledObject")["triggers"][0]["metadata"]["threshold"] = "20"


def scale_on_nothing(objects):
    spec(objects, "ScaledObject")["triggers"][0]["metadata"]["query"] = "sum(stylewire_backlog)"


def scale_on_no_label(objects):
    spec(objects, "ScaledObject")["triggers"][0]["metadata"]["query"] = 'sum(stylewire_backlog_seconds{net="a"})'


def misroute(objects):
    spec(objects, "GRPCRoute")["rules"][0]["matches"][0]["method"]["service"] = "stylewire.v1.Styles"


def probe_in_plain(objects):
    container(objects)["livenessProbe"] = {
        "grpc": {"port": 8500, "service": ""},
        "periodSeconds": 10,
        "failureThreshold": 3,
    }


def probe_another_name(objects):
    probe = container(objects)["readinessProbe"]["exec"]["command"]
    probe[:] = ["--service=" if each.startswith("--service") else each for each in probe]


def run_as_root(objects):
    spec(objects, "Deployment")["template"]["spec"]["securityContext"]["runAsUser"] = 0


def write_to_root(objects):
    container(objects, "models")["securityContext"]["readOnlyRootFilesystem"] = False


def drop_tag(objects):
    container(objects)["image"] = "stylewire"


def move_namespace(objects):
    named(objects, "Service", "stylewire")["metadata"]["namespace"] = "default"


@pytest.mark.parametrize(
    ("mistake", "check", "words"),
    [
        (relabel, references.selector_problems, "Service/stylewire selects no pods"),
        (lose_budget, references.selector_problems, "0 objects of kind PodDisruptionBudget"),
        (rename_port, references.port_problems, "Deployment/stylewire has no port http"),
        (move_probe, server.setting_problems, "has the ports"),
        (lose_secret, references.name_problems, "needs Secret/stylewire-tls"),
        (lose_account, references.name_problems, "needs ServiceAccount/stylewire"),
        (move_namespace, references.name_problems, "in the namespace default"),
        (misspell_setting, server.setting_problems, "did you mean STYLEWIRE_MAX_BATCH_SIZE"),
        (misplace_models, server.setting_problems, "STYLEWIRE_MODELS is /elsewhere, where nothing is mounted"),
        (drain_longer, server.time_problems, "stopping takes 75 s"),
        (start_longer, server.time_problems, "a start may take 10000 s"),
        (probe_in_plain, server.probe_problems, "speak no TLS"),
        (probe_another_name, server.probe_problems, "readinessProbe asks for the health of ''"),
        (misroute, server.route_problems, "no service stylewire.v1.Styles"),
        (set_replicas, scaling.scaling_problems, "its Deployment sets replicas"),
        (scale_late, scaling.scaling_problems, "requests are refused already"),
        (scale_on_nothing, scaling.query_name_problems, "no metric stylewire_backlog"),
        (scale_on_no_label, scaling.query_name_problems, "has no label net"),
        (run_as_root, hardening.hardening_problems, "runs as root"),
        (write_to_root, hardening.hardening_problems, "may write to its root"),
        (drop_tag, hardening.hardening_problems, "another one tomorrow"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_mistake_is_noticed(objects, mistake, check, words):
    """Every check fails for the mistake that it is there for."""
    mistake(objects)

    assert words in " ".join(check(objects))


@pytest.mark.parametrize(
    "kind", ["Deployment", "ScaledObject", "PodMonitor", "Certificate", "GRPCRoute", "ServiceMonitor"]
)
def test_a_field_that_nobody_knows_is_noticed(objects, kind):
    """Validation is strict, in built-in kinds and in custom resources."""
    known = next((each for each in objects if each["kind"] == kind), None)
    manifest = known or next(each for each in rendered(CASES["overlays/gpu"]) if each["kind"] == kind)
    wrong = {**manifest, "spec": {**manifest["spec"], "replica": 1}}

    assert "replica" in " ".join(schemas.problems(wrong))
