"""What is for KServe: valid by the published schemas, and true of the server."""

import copy

import pytest

from check import kserve
from check.objects import of_kind

OBJECTS = kserve.objects()


@pytest.fixture
def objects():
    return copy.deepcopy(OBJECTS)


def runtime(objects):
    return next(of_kind(objects, "ServingRuntime"))["spec"]


def container(objects):
    return runtime(objects)["containers"][0]


def predictor(objects):
    return next(of_kind(objects, "InferenceService"))["spec"]["predictor"]


def set_variable(objects, name, value):
    next(each for each in container(objects)["env"] if each["name"] == name)["value"] = value


def test_runtime_and_model_are_as_the_schemas_and_the_server_want_them():
    """The two objects are valid, fit each other, and the server reads its settings from them."""
    assert ["InferenceService", "ServingRuntime"] == sorted(each["kind"] for each in OBJECTS)
    assert [] == list(kserve.kserve_problems(OBJECTS))


def speak_http(objects):
    runtime(objects)["protocolVersions"].append("v2")


def rename_container(objects):
    container(objects)["name"] = "stylewire"


def misspell_setting(objects):
    container(objects)["env"].append({"name": "STYLEWIRE_MAX_BATCHSIZE", "value": "4"})


def misplace_models(objects):
    set_variable(objects, "STYLEWIRE_MODELS", "/models")


def move_port(objects):
    container(objects)["ports"][0]["containerPort"] = 9000


def name_port_otherwise(objects):
    container(objects)["ports"][0]["name"] = "grpc"


def scrape_elsewhere(objects):
    runtime(objects)["annotations"]["prometheus.io/port"] = "8500"


def probe_another_name(objects):
    container(objects)["readinessProbe"]["grpc"]["service"] = "inference.GRPCInferenceService"


def lose_cache(objects):
    set_variable(objects, "XDG_CACHE_HOME", "/elsewhere")


def lose_volume(objects):
    runtime(objects)["volumes"].pop()


def write_to_root(objects):
    container(objects)["securityContext"]["readOnlyRootFilesystem"] = False


def take_links(objects):
    predictor(objects)["enableServiceLinks"] = True


def lose_runtime(objects):
    predictor(objects)["model"]["runtime"] = "triton"


def change_format(objects):
    predictor(objects)["model"]["modelFormat"]["name"] = "sklearn"


def change_protocol(objects):
    predictor(objects)["model"]["protocolVersion"] = "v2"


def stop_sooner(objects):
    predictor(objects)["terminationGracePeriodSeconds"] = 30


def unknown_field(objects):
    predictor(objects)["model"]["storageUrl"] = "pvc://stylewire-models"


def unknown_field_of_runtime(objects):
    runtime(objects)["protocols"] = ["grpc-v2"]


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (speak_http, "it promises ['grpc-v2', 'v2']"),
        (rename_container, "KServe looks for the one container kserve-container"),
        (misspell_setting, "did you mean STYLEWIRE_MAX_BATCH_SIZE"),
        (misplace_models, "STYLEWIRE_MODELS is /models, KServe puts the model at /mnt/models"),
        (move_port, "has the ports {'h2c': 9000"),
        (name_port_otherwise, "has the ports {'grpc': 8500"),
        (scrape_elsewhere, "Prometheus is sent to another port"),
        (probe_another_name, "readinessProbe asks for the health of"),
        (lose_cache, "XDG_CACHE_HOME is no folder that can be written"),
        (lose_volume, "which are not its volumes"),
        (write_to_root, "may write to its root"),
        (take_links, "STYLEWIRE_PORT is a setting"),
        (lose_runtime, "there is no ServingRuntime triton"),
        (change_format, "does not take the format"),
        (change_protocol, "does not speak v2"),
        (stop_sooner, "stopping takes 40 s"),
        (unknown_field, "'storageUrl' was unexpected"),
        (unknown_field_of_runtime, "'protocols' was unexpected"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_mistake_is_noticed(objects, mistake, words):
    """Every check fails for the mistake that it is there for."""
    mistake(objects)

    assert words in " ".join(kserve.kserve_problems(objects))
