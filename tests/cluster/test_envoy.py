"""deploy/envoy/envoy.yaml fits the manifests and the server beside it."""

import subprocess

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from check.kinds import DEPLOY
from stylewire import pb
from stylewire.server.config.settings import Settings
from support.dns import NameServer
from support.envoy import CONFIG, RunningEnvoy, program

PARTS = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["static_resources"]
LISTENER, CLUSTER = PARTS["listeners"][0], PARTS["clusters"][0]

ONCE = [("grpc.enable_retries", 0)]


@pytest.fixture
def lonely():
    """Envoy with no server behind it."""
    names = NameServer()
    envoy = RunningEnvoy(names.port, 1)
    yield envoy
    envoy.stop()
    names.stop()


def test_file_is_accepted_by_envoy():
    """Envoy itself finds nothing wrong in the file, fields that it does not know included."""
    checked = subprocess.run(
        [program(), "--mode", "validate", "-c", str(CONFIG)], capture_output=True, text=True, timeout=60, check=False
    )

    assert 0 == checked.returncode, checked.stderr
    assert "deprecated" not in checked.stderr.lower(), checked.stderr


def test_servers_are_those_of_the_headless_service():
    """Name, namespace and port are those of deploy/base."""
    service = yaml.safe_load((DEPLOY / "base" / "service-headless.yaml").read_text(encoding="utf-8"))
    namespace = yaml.safe_load((DEPLOY / "base" / "kustomization.yaml").read_text(encoding="utf-8"))["namespace"]
    endpoint = CLUSTER["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]

    assert f"{service['metadata']['name']}.{namespace}.svc.cluster.local" == endpoint["address"]
    assert service["spec"]["ports"][0]["port"] == endpoint["port_value"]


def test_whatever_a_server_takes_can_be_sent_again():
    """Envoy keeps calls as large as the servers' limit."""
    assert Settings.model_fields["max_message_bytes"].default == LISTENER["per_connection_buffer_limit_bytes"]


def test_health_asked_about_is_readiness():
    """The name is that which says NOT_SERVING from SIGTERM on."""
    assert pb.STYLEGAN_SERVICE == CLUSTER["health_checks"][0]["grpc_health_check"]["service_name"]


def test_nothing_but_the_api_is_reached(lonely):
    """Health and reflection of the servers stay inside."""
    with grpc.insecure_channel(lonely.address) as channel, pytest.raises(grpc.RpcError) as caught:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)

    assert grpc.StatusCode.UNIMPLEMENTED == caught.value.code()


def test_no_server_is_an_error_to_try_again(lonely):
    """Without any server a call ends in UNAVAILABLE, at once."""
    with grpc.insecure_channel(lonely.address, ONCE) as channel, pytest.raises(grpc.RpcError) as caught:
        pb.ModelServiceStub(channel).ListModels(pb.ListModelsRequest(), timeout=20)

    assert grpc.StatusCode.UNAVAILABLE == caught.value.code()
