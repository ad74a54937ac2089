"""Requests of the Open Inference Protocol, as clients of Triton make them, and without such a client."""

import numpy as np
import tritonclient.grpc as triton_client

from stylewire import oip_pb

TYPES = {np.dtype("float32"): "FP32", np.dtype("int64"): "INT64", np.dtype("uint32"): "UINT32"}


def given(**arrays):
    """Make inputs of arrays, by name."""
    made = []
    for name, array in arrays.items():
        made.append(triton_client.InferInput(name, list(array.shape), TYPES[array.dtype]))
        made[-1].set_data_from_numpy(array)
    return made


def wanted(*names):
    """Request outputs, by name."""
    return [triton_client.InferRequestedOutput(name) for name in names]


def call(channel, method, request, **options):
    """Call without a client that would check the request first."""
    reply = getattr(oip_pb, f"{method}Response").FromString
    stub = channel.unary_unary(f"/{oip_pb.SERVICE}/{method}", lambda message: message.SerializeToString(), reply)
    return stub(request, **options)


def normal(*shape, start=0):
    return np.random.default_rng(start).standard_normal(shape).astype(np.float32)


def infer_request(model, *, raw=(), outputs=(), **inputs):
    """Make a request of typed contents, or of raw ones if those are given."""
    request = oip_pb.ModelInferRequest(model_name=model, raw_input_contents=raw)
    for name, (datatype, shape, values) in inputs.items():
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        field = {"FP32": "fp32_contents", "INT64": "int64_contents", "UINT32": "uint_contents"}.get(datatype)
        if values:
            getattr(tensor.contents, field).extend(values)
    for name in outputs:
        request.outputs.add(name=name)
    return request
