"""The servers that are compared: how each is called, and the settings kept for each model size."""

import base64
import json

from serving.peers import v2
from serving.peers.peer import Peer
from stylewire import pb
from stylewire.client.requests import generate_request


def _find_base64(reply: bytes) -> bytes:
    return base64.b64decode(json.loads(reply)[0])


PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name="stylewire",
            version="this checkout",
            protocol="grpc",
            path=f"/{pb.STYLEGAN_SERVICE}/Generate",
            body=lambda seed: generate_request(seed, format="jpeg").SerializeToString(),
            tuned={64: {}, 256: {}},  # its own defaults
        ),
        Peer(
            name="triton",
            version="2.51.0",
            protocol="grpc",
            path=v2.PATH,
            body=v2.infer_request,
            tuned={
                64: {"workers": 2, "threads": 1, "batch_size": 4},
                256: {"workers": 2, "threads": 1, "batch_size": 2},
            },
        ),
        Peer(
            name="mosec",
            version="0.9.8",
            protocol="h1",
            path="/inference",
            body=lambda seed: str(seed).encode(),
            tuned={
                64: {"workers": 2, "threads": 1, "batch_size": 8, "wait_ms": 1},
                256: {"workers": 2, "threads": 1, "batch_size": 2, "wait_ms": 1},
            },
        ),
        Peer(
            name="litserve",
            version="0.2.19",
            protocol="h1",
            path="/predict",
            headers={"content-type": "application/json"},
            body=lambda seed: json.dumps({"seed": seed}).encode(),
            tuned={
                64: {"workers": 2, "threads": 1, "batch_size": 8, "wait_ms": 1},
                256: {"workers": 2, "threads": 1, "batch_size": 2, "wait_ms": 1},
            },
        ),
        Peer(
            name="bentoml",
            version="1.4.39",
            protocol="h1",
            path="/generate",
            headers={"content-type": "application/json"},
            body=lambda seed: json.dumps({"seeds": [seed]}).encode(),
            find_jpeg=_find_base64,
            tuned={
                64: {"workers": 2, "threads": 1, "batch_size": 8, "wait_ms": 10000},
                256: {"workers": 2, "threads": 1, "batch_size": 2, "wait_ms": 60000},
            },
        ),
        Peer(
            name="mlserver",
            version="1.7.1",
            protocol="grpc",
            path=v2.PATH,
            body=v2.infer_request,
            tuned={
                64: {"workers": 2, "threads": 1, "batch_size": 8, "wait_ms": 5},
                256: {"workers": 2, "threads": 1, "batch_size": 2, "wait_ms": 5},
            },
        ),
        Peer(
            name="kserve",
            version="0.21.0",
            protocol="grpc",
            path=v2.PATH,
            body=lambda seed: v2.infer_request(seed, (1,)),
            tuned={
                64: {"workers": 2, "threads": 1, "batch_size": 1},
                256: {"workers": 2, "threads": 1, "batch_size": 1},
            },
        ),
        Peer(
            name="rayserve",
            version="2.60.0",
            protocol="h1",
            path="/",
            body=lambda seed: str(seed).encode(),
            tuned={
                64: {"workers": 2, "threads": 1, "batch_size": 8, "wait_ms": 1},
                256: {"workers": 2, "threads": 1, "batch_size": 2, "wait_ms": 1},
            },
        ),
    )
}
