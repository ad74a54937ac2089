"""The server under the settings that its manifests give it, asked as their probes ask."""

import json
import re
import signal
import subprocess
import sys
from functools import cache

import grpc
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc

from check.kinds import DEPLOY
from check.objects import named, pods_of, variables
from check.render import cases, render
from stylewire.testing import launcher
from support.servers import running_server

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
rendered = cache(render)


def container(objects):
    return next(pods for pods in pods_of(objects) if pods.name == "stylewire").containers[-1]


@pytest.fixture
def pod(tmp_path):
    """``stylewire serve`` with a pod's environment, on free ports and with a cache that can be written."""
    objects = rendered(cases()["overlays/dev-cpu"])
    own = {"STYLEWIRE_HOST": "127.0.0.1", "XDG_CACHE_HOME": str(tmp_path)}
    quick = {"STYLEWIRE_BACKEND": "onnxruntime", "STYLEWIRE_THREADS": "1"}
    with launcher.ServerProcess(
        command=["-m", "stylewire", *container(objects)["command"][1:]],
        environment=variables(objects, container(objects)) | own | quick,
    ) as server:
        yield server


def test_server_with_a_pods_settings_answers_its_probes(pod):
    """Under the names that the probes ask for, the server says SERVING."""
    with grpc.insecure_channel(pod.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        asked = [container(rendered(cases()["overlays/dev-cpu"]))[name]["grpc"]["service"] for name in PROBES]
        found = [stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status for name in asked]

    assert [health_pb2.HealthCheckResponse.SERVING] * 3 == found


def test_server_with_a_pods_settings_ends_on_sigterm(pod):
    """The signal that the kubelet sends ends the process with 0."""
    code, log = pod.stop(signal.SIGTERM)

    assert 0 == code, log


def test_pods_run_what_the_image_is_made_for():
    """The Deployment's command and user are those of the Dockerfile."""
    if not (DEPLOY / "Dockerfile").exists():
        pytest.skip("deploy/Dockerfile is not there yet")
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    pods = next(pods for pods in pods_of(rendered(cases()["overlays/dev-cpu"])) if pods.name == "stylewire")
    context = pods.spec["securityContext"]

    assert json.loads(re.search(r"^ENTRYPOINT (.+)$", text, re.MULTILINE)[1]) == pods.containers[0]["command"]
    assert re.search(r"^USER (.+)$", text, re.MULTILINE)[1] == f"{context['runAsUser']}:{context['runAsGroup']}"


@pytest.mark.parametrize("name", PROBES)
def test_probe_with_tls_passes_on_a_server_with_the_certificate(tmp_path, name):
    """The command of a probe, with the files where they are here, finds a server with these names SERVING."""
    pytest.importorskip("stylewire.health", reason="the command stylewire-health is not there yet")
    objects = rendered(cases()["components/tls"])
    authority = trustme.CA()
    issued = authority.issue_cert(*named(objects, "Certificate", "stylewire")["spec"]["dnsNames"])
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    issued.private_key_pem.write_to_path(tmp_path / "tls.key")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "tls.crt")

    with running_server(tls_certificate=tmp_path / "tls.crt", tls_key=tmp_path / "tls.key") as server:
        _, *arguments = container(objects)[name]["exec"]["command"]
        here = [each.replace("/tls/", f"{tmp_path}/").replace("localhost:8500", server.address) for each in arguments]
        command = [sys.executable, "-m", "stylewire.health", *here]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (0, "status: SERVING\n") == (ended.returncode, ended.stdout), ended.stderr
