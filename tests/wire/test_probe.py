"""`stylewire health` against real servers: its exit codes are those of grpc_health_probe."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import trustme
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from stylewire.health import READINESS, Exit, main

TIMEOUT = ["--timeout", "20"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    folder, ca = tmp_path_factory.mktemp("authority"), trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("stylewire.example", "probe"):
        issued = ca.issue_cert(name)
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    return folder


def credentials(authority):
    pair = [(authority / f"stylewire.example.{end}").read_bytes() for end in ("key", "pem")]
    return grpc.ssl_server_credentials([pair], (authority / "ca.pem").read_bytes(), require_client_auth=True)


@pytest.fixture(scope="module")
def served(authority):
    """A server with the health service only, in the clear and with mutual TLS."""
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        servicer = health.HealthServicer()
        for name, status in {"": "SERVING", READINESS: "NOT_SERVING", "odd": "SERVICE_UNKNOWN"}.items():
            servicer.set(name, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        clear = server.add_insecure_port("127.0.0.1:0")
        secure = server.add_secure_port("127.0.0.1:0", credentials(authority))
        server.start()
        yield f"127.0.0.1:{clear}", f"127.0.0.1:{secure}"
        server.stop(None).wait()


def closed_address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.mark.parametrize("service", [[], ["--service", ""], ["--service", READINESS]])
def test_server_that_serves_gives_zero(demo_server, service, capfd):
    """A ready server is SERVING by both of its names, readiness when none is given."""
    assert Exit.SERVING == main(["--address", demo_server.address, *service, *TIMEOUT])
    assert ("status: SERVING\n", "") == capfd.readouterr()


@pytest.mark.parametrize(("service", "status"), [(READINESS, "NOT_SERVING"), ("odd", "SERVICE_UNKNOWN")])
def test_server_that_does_not_serve_gives_four(served, service, status, capfd):
    """Any other status than SERVING is printed and ends with 4."""
    assert Exit.NOT_SERVING == main(["--address", served[0], "--service", service, *TIMEOUT])
    assert f"status: {status}\n" == capfd.readouterr().out


def test_unknown_name_gives_three(served, capfd):
    """A call that fails on a connection that stands ends with 3 and the server's code."""
    assert Exit.CALL_FAILED == main(["--address", served[0], "--service", "nobody", *TIMEOUT])
    assert f"{served[0]}: NOT_FOUND" in capfd.readouterr().err


def test_closed_port_gives_two_at_once(capfd):
    """Nobody there ends with 2 and the system's reason, long before the time is over."""
    assert Exit.NOT_CONNECTED == main(["--address", closed_address(), "--timeout", "600"])
    assert "Connection refused" in capfd.readouterr().err


def test_silent_port_gives_two(capfd):
    """A port that takes connections and says nothing ends with 2 when the time is over."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        code = main(["--address", address, "--timeout", "0.2"])

    assert Exit.NOT_CONNECTED == code
    assert f"no connection to {address} within 0.2 s\n" == capfd.readouterr().err


def test_probe_speaks_mutual_tls(served, authority, capfd):
    """The probe trusts its authority, shows its certificate, and takes the name that it is told."""
    files = {"--ca": "ca.pem", "--certificate": "probe.pem", "--key": "probe.key"}
    flags = [word for flag, file in files.items() for word in (flag, str(authority / file))]
    name = ["--server-name", "stylewire.example"]

    assert Exit.SERVING == main(["--address", served[1], "--service", "", "--tls", *flags, *name, *TIMEOUT])
    assert Exit.NOT_CONNECTED == main(["--address", served[1], "--service", "", "--tls", *flags, *TIMEOUT])
    assert "Hostname Verification Check failed" in capfd.readouterr().err


@pytest.mark.parametrize("command", [["stylewire", "health"], ["stylewire.health"]], ids=" ".join)
def test_commands_are_the_same_probe(demo_server, command):
    """`stylewire health` and `python -m stylewire.health` print and return the same."""
    done = [
        subprocess.run(
            [sys.executable, "-m", *command, "--address", address, *TIMEOUT],
            capture_output=True,
            text=True,
            check=False,
        )
        for address in (demo_server.address, closed_address())
    ]

    assert [(0, "status: SERVING\n"), (2, "")] == [(each.returncode, each.stdout) for each in done]
