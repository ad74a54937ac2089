"""Who takes part: the published form, the naive export of it, and every backend of the server on our files."""

from collections.abc import Sequence

from models.candidate import OFFICIAL, Candidate
from models.naive import naive_file
from models.networks import Network

OFFICIAL_NAME, NAIVE_NAME = "official form, PyTorch", "onnxruntime, naive"
"""What the ratios are over."""
ORT_NAME, AGAIN_NAME = "onnxruntime", "onnxruntime (again)"
"""The same twice: what differs between the two is noise."""
_OURS = (
    (ORT_NAME, "onnxruntime", ".onnx", "fp32"),
    (AGAIN_NAME, "onnxruntime", ".onnx", "fp32"),
    ("openvino", "openvino", ".onnx", "fp32"),
    ("openvino", "openvino", ".onnx", "bf16"),
    ("ncnn", "ncnn", ".ncnn.param", "fp32"),
    ("torchscript", "torchscript", ".pt", "fp32"),
    ("onnxruntime", "onnxruntime", ".fp16.onnx", "fp16"),
)
"""Name, backend, suffix of the file, precision."""


def candidates(network: Network, batches: Sequence[int]) -> list[Candidate]:
    """List all, the published form first; files of the naive form are written here."""
    graph, directory = network.graph, network.directory
    listed = [Candidate(name=OFFICIAL_NAME, backend=OFFICIAL, path=network.checkpoint, graph=graph)]
    for batch in batches:
        path = naive_file(network, batch)
        listed.append(Candidate(name=NAIVE_NAME, backend="onnxruntime", path=path, graph=graph, batch=batch))
    for name, backend, suffix, precision in _OURS:
        path = directory / f"{graph}{suffix}"
        # CPUs compute fp16 files in float32, with casts around every layer: nobody would run them there.
        timed = precision != "fp16"
        listed.append(Candidate(name=name, backend=backend, path=path, graph=graph, precision=precision, timed=timed))
    return listed
