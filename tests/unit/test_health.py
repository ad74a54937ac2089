"""The health probe's words and messages; against real servers it is tested in tests/wire/test_probe.py."""

import subprocess
import sys

import pytest
from grpc_health.v1 import health_pb2

from stylewire import pb
from stylewire.client.connection import DEFAULT_ADDRESS
from stylewire.health import DEFAULT_ADDRESS as PROBED_ADDRESS
from stylewire.health import READINESS, Exit, main, request_bytes, status_name


@pytest.mark.parametrize("name", ["", "a", READINESS, "ü" * 200])
def test_request_is_that_of_the_protocol(name):
    """The bytes written by hand are those that protobuf writes."""
    assert health_pb2.HealthCheckRequest(service=name).SerializeToString() == request_bytes(name)


@pytest.mark.parametrize("name", health_pb2.HealthCheckResponse.ServingStatus.keys())
def test_response_is_that_of_the_protocol(name):
    """Every status that protobuf writes is read by its name."""
    response = health_pb2.HealthCheckResponse(status=name).SerializeToString()

    assert name == status_name(response)


@pytest.mark.parametrize(("response", "name"), [(b"\x08\x09", "9"), (b"\x12\x01", "UNKNOWN"), (b"\x08", "UNKNOWN")])
def test_strange_response_is_not_serving(response, name):
    """Bytes that are no known status are never read as SERVING."""
    assert name == status_name(response)


def test_probe_repeats_what_it_may_not_import():
    """The default address and the readiness name are those of the client and the server."""
    assert (DEFAULT_ADDRESS, pb.STYLEGAN_SERVICE) == (PROBED_ADDRESS, READINESS)


def test_probe_imports_little():
    """A probe loads grpc and nothing else that takes time, for it runs every few seconds beside a busy server."""
    heavy = "{'numpy', 'PIL', 'typer', 'google.protobuf', 'pydantic', 'stylewire.client.sync', 'grpc_health.v1'}"
    script = f"import sys, stylewire.health; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--adress=x:1"], "unrecognized arguments: --adress=x:1"),
        (["--timeout", "0"], "argument --timeout: 0 is no time to wait"),
        (["--timeout", "soon"], "argument --timeout: invalid _seconds value: 'soon'"),
        (["--server-name", "x"], "--server-name needs --tls"),
        (["--tls", "--key", "x"], "certificate and key belong together"),
        (["--tls", "--ca", "/nowhere.pem"], "/nowhere.pem: No such file or directory"),
    ],
)
def test_wrong_arguments_are_refused(arguments, words, capfd):
    """A wrong command line ends with 1, as in grpc_health_probe, and says what is wrong."""
    assert Exit.BAD_ARGUMENTS == main(arguments)
    assert words in capfd.readouterr().err


def test_help_tells_the_exit_codes(capsys):
    """The help is the page where the codes are looked up."""
    with pytest.raises(SystemExit) as caught:
        main(["--help"])

    assert 0 == caught.value.code
    assert "0 serving, 1 bad arguments, 2 no connection, 3 the call failed" in " ".join(capsys.readouterr().out.split())
