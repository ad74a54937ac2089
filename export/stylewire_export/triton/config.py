"""The ``config.pbtxt`` of a model, by Triton's own message for it, so that no field can be misspelt.

Source of the fields: ``model_config.proto`` of triton-inference-server/common; of the parameters: the README of each
backend.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelOptimizationPolicy

from stylewire_export.triton.signature import OPEN, Signature, Tensor

Variant = Literal["onnxruntime", "libtorch", "python"]
Device = Literal["cpu", "gpu"]
Precision = Literal["parity", "fast"]

_PLATFORMS: Mapping[Variant, Mapping[str, str]] = {
    "onnxruntime": {"backend": "onnxruntime", "platform": "onnxruntime_onnx"},
    "libtorch": {"backend": "pytorch", "platform": "pytorch_libtorch"},
    "python": {"backend": "python"},
}
_TYPES = {"float32": "TYPE_FP32", "uint8": "TYPE_UINT8"}
_USUAL_SIZE = 8
"""Batch size that TensorRT makes its kernels for; the others run with the same ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How Triton is to run every graph.

    Attributes:
        variant: what runs the graphs.
        device: ``gpu`` puts instances on every GPU that Triton has.
        precision: ``fast`` allows half precision, on GPUs.
        instances: of each graph, on each device.
        max_batch_size: the most items in a batch.
        queue_delay_us: how long a batch may wait for more requests.
        max_queue_size: requests that may wait for a graph; more are refused. 0 refuses none.
        timeout_us: how long a request without a timeout of its own may wait; 0 is without end.
        threads: that an instance computes with on CPUs; 0 leaves it to the runtime: all.
        tensorrt: whether onnxruntime hands the graphs to TensorRT.
        engine_cache: folder, as Triton sees it, where TensorRT keeps its engines; empty builds them at every start.
    """

    variant: Variant = "onnxruntime"
    device: Device = "cpu"
    precision: Precision = "parity"
    instances: int = 1
    max_batch_size: int = 8
    queue_delay_us: int = 0
    max_queue_size: int = 64
    timeout_us: int = 0
    threads: int = 0
    tensorrt: bool = False
    engine_cache: str = ""


def graph_config(name: str, signature: Signature, serving: Serving, noise_size: int = 0) -> ModelConfig:
    """Make the configuration of a graph.

    Args:
        name: of the model at Triton.
        signature: of the graph.
        serving: how to run it.
        noise_size: P, the most noise values of an item; TensorRT builds its engine for them.
    """
    config = ModelConfig(
        name=name,
        **_PLATFORMS[serving.variant],
        **_tensors(signature, serving),
        version_policy={"latest": {"num_versions": 1}},
        instance_group=[{"kind": f"KIND_{serving.device.upper()}", "count": serving.instances}],
        dynamic_batching=_queue(serving),
        model_warmup=[_warm_up(signature, size) for size in sorted({1, serving.max_batch_size})],
    )
    for key, value in _parameters(serving).items():
        config.parameters[key].string_value = value
    if serving.variant == "onnxruntime" and serving.device == "gpu":
        config.optimization.CopyFrom(_accelerators(signature, serving, noise_size))
    return config


def ensemble_config(
    name: str, steps: Sequence[tuple[str, Signature]], serving: Serving, facts: Mapping[str, str]
) -> ModelConfig:
    """Make the configuration of graphs that Triton runs one after the other; tensors of the same name are the same.

    Args:
        name: of the model at Triton.
        steps: names and signatures of the graphs, in their order. What no step returns is an input of the ensemble.
        serving: how the graphs run.
        facts: to go with the model, such as its license.
    """
    made = {tensor.name for _, signature in steps for tensor in signature.outputs}
    inputs = [tensor for _, signature in steps for tensor in signature.inputs if tensor.name not in made]
    outputs = [tensor for tensor in steps[-1][1].outputs if tensor.name == "pixels"]
    config = ModelConfig(
        name=name,
        platform="ensemble",
        **_tensors(Signature(tuple(inputs), tuple(outputs)), serving),
        version_policy={"latest": {"num_versions": 1}},
    )
    for graph, signature in steps:
        last = graph == steps[-1][0]
        config.ensemble_scheduling.step.add(
            model_name=graph,
            model_version=-1,  # the newest
            input_map={tensor.name: tensor.name for tensor in signature.inputs},
            # A step computes the outputs that are mapped; the image in float32 would be four times the pixels.
            output_map={tensor.name: tensor.name for tensor in (outputs if last else signature.outputs)},
        )
    for key, value in facts.items():
        config.parameters[key].string_value = value
    return config


def config_text(config: ModelConfig) -> str:
    """Convert a configuration to the text that Triton reads."""
    header = "# Written by stylewire-export triton-repository.\n"
    return header + text_format.MessageToString(config)


def config_signature(text: str) -> tuple[str, Signature]:
    """Read back the name of a model, and inputs and outputs as its graph has them.

    Raises:
        google.protobuf.text_format.ParseError: Triton could not read it either.
    """
    config = text_format.Parse(text, ModelConfig())
    return config.name, Signature(*(tuple(map(_read_tensor, some)) for some in (config.input, config.output)))


def _read_tensor(field: Any) -> Tensor:
    types = {value: key for key, value in _TYPES.items()}
    name = field.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[field.data_type].name
    return Tensor(
        field.name, types.get(name, name), tuple(field.reshape.shape if field.HasField("reshape") else field.dims)
    )


def _tensors(signature: Signature, serving: Serving) -> dict[str, Any]:
    inputs, outputs = (list(map(_tensor, some)) for some in (signature.inputs, signature.outputs))
    return {"max_batch_size": serving.max_batch_size, "input": inputs, "output": outputs}


def _tensor(tensor: Tensor) -> dict[str, Any]:
    described = {"name": tensor.name, "data_type": _TYPES[tensor.data_type], "dims": tensor.shape or (1,)}
    # Triton demands a side behind the batch axis: float32[N] travels as [N, 1].
    return described if tensor.shape else {**described, "reshape": {"shape": ()}}


def _queue(serving: Serving) -> dict[str, Any]:
    return {
        "max_queue_delay_microseconds": serving.queue_delay_us,
        "default_queue_policy": {
            "timeout_action": "REJECT",
            "default_timeout_microseconds": serving.timeout_us,
            "allow_timeout_override": True,  # by the parameter "timeout" of a request
            "max_queue_size": serving.max_queue_size,
        },
    }


def _warm_up(signature: Signature, size: int) -> dict[str, Any]:
    inputs = {
        tensor.name: {
            "data_type": _TYPES[tensor.data_type],
            "dims": [abs(side) for side in tensor.shape] or [1],  # of noise one value, which is none
            **({"zero_data": True} if tensor.name in ("label", "noise") else {"random_data": True}),
        }
        for tensor in signature.inputs
    }
    return {"name": f"batch of {size}", "batch_size": size, "inputs": inputs}


def _parameters(serving: Serving) -> dict[str, str]:
    if serving.variant == "libtorch":
        # Otherwise PyTorch compiles anew for every batch size that it meets.
        threads = {"INTRA_OP_THREAD_COUNT": str(serving.threads)} if serving.threads else {}
        return {"DISABLE_OPTIMIZED_EXECUTION": "true", **(threads if serving.device == "cpu" else {})}
    return {"intra_op_thread_count": str(serving.threads if serving.device == "cpu" else 1)}


def _accelerators(signature: Signature, serving: Serving, noise_size: int) -> ModelOptimizationPolicy:
    policy = ModelOptimizationPolicy()
    add = policy.execution_accelerators.gpu_execution_accelerator.add
    if serving.tensorrt:
        add(name="tensorrt", parameters=_tensorrt(signature, serving, noise_size))
    # No CUDA graphs: they need inputs that keep their place and size, and Triton's batches do not.
    cuda = {"prefer_nhwc": "1", "cudnn_conv_use_max_workspace": "1", "arena_extend_strategy": "kSameAsRequested"}
    add(name="cuda", parameters={**cuda, "use_tf32": "1" if serving.precision == "fast" else "0"})
    return policy


def _tensorrt(signature: Signature, serving: Serving, noise_size: int) -> dict[str, str]:
    sizes = (1, min(_USUAL_SIZE, serving.max_batch_size), serving.max_batch_size)
    profile = {
        f"trt_profile_{bound}_shapes": ",".join(
            f"{tensor.name}:{'x'.join(map(str, (size, *_closed(tensor, noise_size if bound == 'max' else 1))))}"
            for tensor in signature.inputs
        )
        for bound, size in zip(("min", "opt", "max"), sizes, strict=True)
    }
    cache = {f"trt_{kind}_cache_enable": "1" for kind in ("engine", "timing")} | {
        f"trt_{kind}_cache_path": serving.engine_cache for kind in ("engine", "timing")
    }
    half = {"precision_mode": "FP16" if serving.precision == "fast" else "FP32"}
    return half | profile | (cache if serving.engine_cache else {})


def _closed(tensor: Tensor, size: int) -> tuple[int, ...]:
    return tuple(size if side == OPEN else side for side in tensor.shape)
