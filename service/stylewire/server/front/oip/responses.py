"""Models and their outputs -> messages of the Open Inference Protocol."""

from collections.abc import Iterable, Iterator

import numpy as np

from stylewire import oip_pb
from stylewire.server.engine_api.graphs import Arrays
from stylewire.server.engine_api.models import ModelInfo, ModelStatus, State
from stylewire.server.engine_api.statistics import GraphStatistics, Total
from stylewire.server.front.oip.inference import InferJob
from stylewire.server.front.oip.requests import DTYPES, described, version_of
from stylewire.server.front.oip.signatures import WHOLE, Spec, names, signature

_RAW_OUTPUT = bytes([6 << 3 | 2])
"""Begins an element of ``raw_output_contents``: field 6, bytes."""
_CONFIG_TYPES = {
    "FP32": oip_pb.DataType.TYPE_FP32,
    "INT64": oip_pb.DataType.TYPE_INT64,
    "UINT32": oip_pb.DataType.TYPE_UINT32,
    "UINT8": oip_pb.DataType.TYPE_UINT8,
}


def infer(request: oip_pb.ModelInferRequest, job: InferJob, outputs: Arrays) -> bytes:
    """Build the reply of ModelInfer, as bytes: protobuf would copy each output three times."""
    reply = oip_pb.ModelInferResponse(model_name=request.model_name, model_version=version_of(job.model), id=request.id)
    specs = signature(job.model, job.graph).all_outputs
    contents: list[bytes | memoryview] = []
    for name, found in outputs.items():
        array = np.ascontiguousarray(found, DTYPES[specs[name].datatype])
        reply.outputs.add(name=name, datatype=specs[name].datatype, shape=array.shape)
        contents += [_RAW_OUTPUT, _varint(array.nbytes), array.reshape(-1).view(np.uint8).data]
    return b"".join([reply.SerializeToString(), *contents])


def metadata(status: ModelStatus, graph: str, versions: Iterable[str]) -> oip_pb.ModelMetadataResponse:
    """Describe what goes in and out."""
    name, platform = called(status.info, graph), _platform(status, graph)
    reply = oip_pb.ModelMetadataResponse(name=name, versions=versions, platform=platform)
    expected = signature(status.info, graph)
    for spec in expected.inputs:
        reply.inputs.add(name=spec.name, datatype=spec.datatype, shape=(-1, *spec.dims))
    for spec in expected.outputs:
        reply.outputs.add(name=spec.name, datatype=spec.datatype, shape=(-1, *spec.dims))
    reply.properties.update({"digest": status.info.digest, "device": status.device, "precision": status.precision})
    return reply


def config(status: ModelStatus, graph: str, max_row_count: int) -> oip_pb.ModelConfigResponse:
    """Describe how it runs."""
    reply, platform = oip_pb.ModelConfigResponse(), _platform(status, graph)
    found, expected = reply.config, signature(status.info, graph)
    found.name, found.platform, found.backend = called(status.info, graph), platform, platform
    found.max_batch_size = max_row_count
    found.dynamic_batching.SetInParent()
    for spec in expected.inputs:
        found.input.add(name=spec.name, data_type=_type(spec), dims=spec.dims)
    for spec in expected.outputs:
        found.output.add(name=spec.name, data_type=_type(spec), dims=spec.dims)
    for name, specs in (("more_inputs", expected.more_inputs), ("more_outputs", expected.more_outputs)):
        if specs:
            found.parameters[name].string_value = "; ".join(f"{spec.name} {described(spec)}" for spec in specs)
    return reply


def fill_statistics(
    reply: oip_pb.ModelStatisticsResponse, model: ModelInfo, graph: str, counts: GraphStatistics
) -> None:
    """Add what a graph has done."""
    found = reply.model_stats.add(
        name=called(model, graph),
        version=version_of(model),
        last_inference=round(counts.answered_at * 1e3),
        inference_count=counts.row_count,
        execution_count=counts.batch_count,
    )
    _fill_times(found.inference_stats, counts)
    for size, total in sorted(counts.batches.items()):
        _fill_total(found.batch_stats.add(batch_size=size).compute_infer, total)


def index(models: Iterable[ModelStatus], states: Iterable[tuple[str, str, str]]) -> oip_pb.RepositoryIndexResponse:
    """List the models that there are.

    Args:
        models: those that requests find.
        states: name, version and state of everything that is loaded, or could not be.
    """
    reply, ready = oip_pb.RepositoryIndexResponse(), set[tuple[str, str]]()
    for status in models:
        if status.state is State.READY:
            model = status.info
            ready.add((model.name, model.version))
            for graph in names(model):
                reply.models.add(name=called(model, graph), version=version_of(model), state="READY")
    for name, version, state in states:
        if (name, version) not in ready:
            reply.models.add(name=name, version=version or "1", state="UNAVAILABLE", reason=state)
    return reply


def called(model: ModelInfo, graph: str) -> str:
    """Return the name by which the protocol knows a graph, or a model as a whole."""
    return model.name if graph == WHOLE else f"{model.name}.{graph}"


def _platform(status: ModelStatus, graph: str) -> str:
    return next((each.backend for each in status.runtimes.get(graph, ()) if each.chosen), "stylewire")


def _type(spec: Spec) -> oip_pb.DataType.ValueType:
    return _CONFIG_TYPES[spec.datatype]


def _fill_times(found: oip_pb.InferStatistics, counts: GraphStatistics) -> None:
    _fill_total(found.success, counts.success)
    _fill_total(found.fail, counts.fail)
    _fill_total(found.queue, counts.queue)
    _fill_total(found.compute_input, counts.input)
    _fill_total(found.compute_infer, counts.run)
    _fill_total(found.compute_output, counts.output)


def _fill_total(found: oip_pb.StatisticDuration, total: Total) -> None:
    found.count, found.ns = total.count, round(total.seconds * 1e9)


def _varint(number: int) -> bytes:
    """Write a length as protobuf does: seven bits a byte, the lowest first."""

    def groups(left: int) -> Iterator[int]:
        while left > 0x7F:
            yield left & 0x7F | 0x80
            left >>= 7
        yield left

    return bytes(groups(number))
