"""A client that knows nothing of this project, through reflection."""

import base64
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

BUF = shutil.which("buf", path=str(Path(sys.executable).parent))
PROTOCOLS = ["grpc-v1", "grpc-v1alpha"]

pytestmark = pytest.mark.skipif(BUF is None, reason="no buf in this environment: pip install buf-bin")


def curl(server, *arguments, protocol="grpc-v1", path="") -> str:
    command = [BUF, "curl", "--http2-prior-knowledge", "--protocol", "grpc", "--reflect-protocol", protocol]
    command += [*arguments, f"http://{server.address}{path}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_services_are_listed(demo_server, protocol):
    """Both versions of reflection list the same services."""
    listed = curl(demo_server, "--list-services", protocol=protocol).split()

    assert {"stylewire.v1.StyleGanService", "stylewire.v1.ModelService", "grpc.health.v1.Health"} <= set(listed)
    assert "inference.GRPCInferenceService" in listed


def test_methods_are_listed(demo_server):
    """Every RPC of both services is found."""
    listed = curl(demo_server, "--list-methods").split()
    stylegan = [f"stylewire.v1.StyleGanService/{m}" for m in ("Generate", "Interpolate", "Invert", "MixStyles")]

    assert {*stylegan, "stylewire.v1.ModelService/GetModel", "stylewire.v1.ModelService/ListModels"} <= set(listed)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_generate_is_called_with_json(demo_server, protocol):
    """A JSON request gives a picture."""
    request = json.dumps(
        {"latents": [{"seed": 7, "truncation": {"psi": 0.7}}], "outputConfig": {"format": "IMAGE_FORMAT_JPEG"}}
    )
    path = "/stylewire.v1.StyleGanService/Generate"
    reply = json.loads(curl(demo_server, "--data", request, protocol=protocol, path=path))
    image = Image.open(io.BytesIO(base64.b64decode(reply["images"][0]["content"])))

    assert ("JPEG", (64, 64)) == (image.format, image.size)


def test_open_inference_protocol_is_called_with_json(demo_server):
    """Its messages are described too, though they are in no pool that other packages see."""
    request = {"modelName": "avatars", "inputs": [{"name": "seed", "datatype": "INT64", "shape": ["1"]}]}
    request["inputs"][0]["contents"] = {"int64Contents": ["7"]}
    path = "/inference.GRPCInferenceService/ModelInfer"
    reply = json.loads(curl(demo_server, "--data", json.dumps(request), path=path))

    assert {"name": "pixels", "datatype": "UINT8", "shape": ["1", "64", "64", "3"]} == reply["outputs"][0]


def test_stream_is_called_with_json(demo_server):
    """A stream gives one JSON message a frame."""
    request = json.dumps({"keyframes": [{"seed": 1}, {"seed": 2}], "frameCount": 3})
    reply = curl(demo_server, "--data", request, path="/stylewire.v1.StyleGanService/Interpolate")
    decoder, frames = json.JSONDecoder(), []
    while reply.strip():
        frame, end = decoder.raw_decode(reply.strip())
        frames.append(frame)
        reply = reply.strip()[end:]

    assert [0, 1, 2] == [frame.get("frameIndex", 0) for frame in frames]


def test_error_is_readable_without_our_protos(demo_server):
    """A wrong request tells a stranger which field is wrong."""
    command = [BUF, "curl", "--http2-prior-knowledge", "--protocol", "grpc", "--data", "{}"]
    command += [f"http://{demo_server.address}/stylewire.v1.StyleGanService/Generate"]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert failed.returncode
    assert "latents: has 0 elements; expected 1 to 64" in failed.stderr
