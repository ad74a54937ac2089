"""ModelInfer -> a job. All that is wrong with a request is found at once, before anything may join a batch."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from stylewire import latents, oip_pb
from stylewire.errors import InvalidFieldError, ModelNotFoundError, Violation
from stylewire.server.engine_api.catalog import Catalog
from stylewire.server.engine_api.engine import Lease
from stylewire.server.engine_api.models import ModelInfo, ModelStatus
from stylewire.server.front.api.limits import Limits
from stylewire.server.front.api.violations import Violations
from stylewire.server.front.oip.inference import InferJob
from stylewire.server.front.oip.signatures import SEED_TYPES, WHOLE, Signature, Spec, signature

_Found = TypeVar("_Found", ModelInfo, ModelStatus)
_Tensor: TypeAlias = NDArray[np.float32] | NDArray[np.uint8]

USUAL_VERSION = "1"
"""What a model without versions answers to: clients take versions for numbers."""
DTYPES: Mapping[str, np.dtype[Any]] = {
    "FP32": np.dtype("<f4"),
    "INT64": np.dtype("<i8"),
    "UINT32": np.dtype("<u4"),
    "UINT8": np.dtype("u1"),
}
_CONTENTS = {"FP32": "fp32_contents", "INT64": "int64_contents", "UINT32": "uint_contents"}
_REFUSED_PARAMETERS = ("shared_memory_region", "classification")
"""What would change where an output goes, or what it is."""
_MANY_TENSORS, _MANY_AXES = 16, 8
"""No model has so many: whoever sends more is refused, but each of them is looked at."""
_MANY_BYTES, _MANY_SEEDS = 1 << 18, 16
"""More than these are read in a thread: looking through so many floats, or drawing so many z, takes about 0.1 ms."""


def find(catalog: Catalog, name: str, version: str) -> tuple[ModelStatus, str]:
    """Find the model and the graph that ``name`` means, such as ``avatars`` or ``avatars.synthesis``.

    Raises:
        ModelNotFoundError: there is no such model, version or graph.
    """
    model, graph = _find(catalog.find, name, version)
    signature(model.info, graph)
    return model, graph


def lease(models: Lease, name: str, version: str) -> tuple[ModelInfo, str]:
    """Find the same for a call that runs it."""
    model, graph = _find(models.get, name, version)
    signature(model, graph)
    return model, graph


def version_of(model: ModelInfo) -> str:
    """Return a model's version, as the protocol has it."""
    return model.version or USUAL_VERSION


def timeout_seconds(request: oip_pb.ModelInferRequest) -> float | None:
    """Read the parameter ``timeout``; None or 0 is no limit.

    Raises:
        InvalidFieldError: it is no number of microseconds.
    """
    if "timeout" not in request.parameters:
        return None
    value = request.parameters["timeout"]
    kind = value.WhichOneof("parameter_choice")
    if kind not in ("int64_param", "uint64_param") or getattr(value, kind) < 0:
        wrong = "is no number of microseconds; send a positive int64_param"
        raise InvalidFieldError.of([Violation("parameters[timeout]", wrong)])
    return float(getattr(value, kind)) / 1e6 or None


def takes_long(request: oip_pb.ModelInferRequest) -> bool:
    """Tell whether reading the request may hold the event loop; what it claims is not checked yet."""
    if len(request.inputs) + len(request.outputs) > _MANY_TENSORS:
        return True
    counts = [math.prod(each.shape[:_MANY_AXES]) for each in request.inputs]
    seeds = [count for each, count in zip(request.inputs, counts, strict=True) if each.datatype in SEED_TYPES]
    return sum(counts) * 4 > _MANY_BYTES or sum(seeds) > _MANY_SEEDS


def parse_infer(
    request: oip_pb.ModelInferRequest, models: Lease, model: ModelInfo, graph: str, limits: Limits
) -> InferJob:
    """Check a request.

    Raises:
        InvalidFieldError: with every violation.
        UnsupportedError: the model has no mean code, which psi needs.
        ModelNotReadyError: the model is not loaded.
    """
    validator = _Validator(request, signature(model, graph), limits)
    inputs, outputs = validator.inputs(), validator.outputs()
    if graph == WHOLE:
        validator.check_whole(inputs)
    validator.finish()
    job = InferJob(model=model, graph=graph, inputs=_drawn(inputs, model.manifest.z_dim), outputs=outputs)
    if refusal := models.refusal(model, job.last_graph):
        raise refusal
    if graph == WHOLE and "psi" in inputs:
        _ = model.mean_code
    return job


class _Validator(Violations):
    """Reads one request.

    Args:
        request: that is read.
        expected: the tensors of its model.
        limits: what is refused.
    """

    def __init__(self, request: oip_pb.ModelInferRequest, expected: Signature, limits: Limits) -> None:
        super().__init__()
        self._request, self._expected, self._limits = request, expected, limits
        self._row_count: int | None = None

    def inputs(self) -> dict[str, NDArray[Any]]:
        """Read all inputs."""
        request, known = self._request, self._expected.all_inputs
        raws = list(request.raw_input_contents)
        if raws and len(raws) != len(request.inputs):
            problem = f"has {len(raws)} elements for {len(request.inputs)} inputs; send all of them raw, or none"
            self.wrong("raw_input_contents", problem)
            return {}
        read: dict[str, NDArray[Any]] = {}
        for index, message in enumerate(request.inputs):
            path, name = f"inputs[{index}]", message.name
            if name not in known:
                self.wrong(f"{path}.name", f"{name[:80]!r} is no input of this model; it has {', '.join(known)}")
            elif name in read:
                self.wrong(f"{path}.name", f"{name!r} is there twice")
            else:
                read[name] = self._input(path, message, known[name], raws[index] if raws else None)
        for spec in self._expected.inputs:
            if spec.name not in read and spec.name != "seed":  # z may be there instead
                self.wrong("inputs", f"{spec.name} is missing: {described(spec)}")
        return read

    def outputs(self) -> tuple[str, ...]:
        """Read which outputs are wanted, which must fit into one reply."""
        known = self._expected.all_outputs
        wanted = []
        for index, message in enumerate(self._request.outputs):
            if message.name not in known:
                problem = f"{message.name[:80]!r} is no output of this model; it has {', '.join(known)}"
                self.wrong(f"outputs[{index}].name", problem)
            elif message.name in wanted:
                self.wrong(f"outputs[{index}].name", f"{message.name!r} is there twice")
            else:
                wanted.append(message.name)
            self._check_parameters(f"outputs[{index}]", message.parameters)
        names = wanted or [spec.name for spec in self._expected.outputs]
        row_bytes = sum(math.prod(known[name].dims) * DTYPES[known[name].datatype].itemsize for name in names)
        reply_bytes, limit = row_bytes * (self._row_count or 0), self._limits.max_message_bytes
        if reply_bytes > limit:
            self.wrong("outputs", f"make a reply of {reply_bytes} bytes; the limit is {limit}: send fewer rows")
        return tuple(names)

    def check_whole(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Check what belongs together where seeds or z become pixels."""
        if ("seed" in inputs) == ("z" in inputs):
            problem = "both seed and z are there" if "seed" in inputs else "neither seed nor z is there"
            self.wrong("inputs", f"{problem}; send one of them")
        if "seed" in inputs and not ((inputs["seed"] >= 0) & (inputs["seed"] < 2**32)).all():
            self.wrong("inputs[seed]", "has a seed outside 0 to 4294967295")
        if "psi" in inputs and not (abs(inputs["psi"]) <= 2).all():
            self.wrong("inputs[psi]", "has a value outside -2 to 2")

    def _input(
        self, path: str, message: oip_pb.ModelInferRequest.InferInputTensor, spec: Spec, raw: bytes | None
    ) -> NDArray[Any]:
        """Read one input; what is wrong is read as one row of zeros."""
        nothing = np.zeros((1, *spec.row_shape), np.float32)
        self._check_parameters(path, message.parameters)
        datatypes = SEED_TYPES if spec.name == "seed" else (spec.datatype,)
        if message.datatype not in datatypes:
            self.wrong(f"{path}.datatype", f"is {message.datatype[:20]!r}; expected {' or '.join(datatypes)}")
            return nothing
        shape = tuple(message.shape)
        if not self._check_shape(f"{path}.shape", shape, spec):
            return nothing
        if raw is not None and message.HasField("contents"):
            self.wrong(f"{path}.contents", "is there besides raw_input_contents; send one of them")
            return nothing
        array = self._raw(path, message, raw, shape) if raw is not None else self._typed(path, message, shape)
        if array is None:
            return nothing
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            self.wrong(path, f"{spec.name} holds NaN or infinity")
        return array.reshape(shape[0], *spec.row_shape)

    def _check_shape(self, path: str, shape: tuple[int, ...], spec: Spec) -> bool:
        most = self._limits.max_latents
        if shape[1:] != spec.dims and not (spec.single and len(shape) == 1):
            self.wrong(path, f"is {list(shape)[:8]}; expected {described(spec)}")
        elif not 1 <= shape[0] <= most:
            self.wrong(path, f"has {shape[0]} rows; expected 1 to {most}")
        elif self._row_count not in (None, shape[0]):
            self.wrong(path, f"has {shape[0]} rows, and another input {self._row_count}; all need as many")
        else:
            self._row_count = shape[0]
            return True
        return False

    def _raw(
        self, path: str, message: oip_pb.ModelInferRequest.InferInputTensor, raw: bytes, shape: tuple[int, ...]
    ) -> NDArray[Any] | None:
        dtype = DTYPES[message.datatype]
        if len(raw) != math.prod(shape) * dtype.itemsize:
            needed = math.prod(shape) * dtype.itemsize
            self.wrong(
                f"raw_{path.replace('inputs', 'input_contents')}", f"has {len(raw)} bytes; the shape needs {needed}"
            )
            return None
        return np.frombuffer(raw, dtype)

    def _typed(
        self, path: str, message: oip_pb.ModelInferRequest.InferInputTensor, shape: tuple[int, ...]
    ) -> NDArray[Any] | None:
        field = _CONTENTS[message.datatype]
        values = getattr(message.contents, field)
        if len(values) != math.prod(shape):
            self.wrong(f"{path}.contents.{field}", f"has {len(values)} elements; the shape needs {math.prod(shape)}")
            return None
        return np.array(values, DTYPES[message.datatype])

    def _check_parameters(self, path: str, parameters: Mapping[str, object]) -> None:
        for name in _REFUSED_PARAMETERS:
            if name in parameters:
                self.wrong(f"{path}.parameters[{name}]", "is not supported here; leave it out")


def _find(find_model: Callable[[str], _Found], name: str, version: str) -> tuple[_Found, str]:
    base, _, graph = name.partition(".")
    if not base or "@" in base or name == f"{base}.":
        message = "name a model, such as those that RepositoryIndex lists; its version has a field of its own"
        raise ModelNotFoundError(f"no model {name[:80]!r}: {message}", resource=("inference.Model", name[:80]))
    return _find_version(find_model, base, version), graph


def _find_version(find_model: Callable[[str], _Found], name: str, version: str) -> _Found:
    try:
        return find_model(f"{name}@{version}" if version else name)
    except ModelNotFoundError:
        if version != USUAL_VERSION:
            raise
        model = find_model(name)
        if (model.info if isinstance(model, ModelStatus) else model).version:
            raise
        return model


def described(spec: Spec) -> str:
    """Write a tensor for people, such as ``FP32 [N, 128]``."""
    return f"{spec.datatype} [N, {', '.join(map(str, spec.dims))}]"


def _drawn(inputs: Mapping[str, NDArray[Any]], z_dim: int) -> dict[str, _Tensor]:
    """Put the z of seeds in their place."""
    drawn = dict(inputs)
    seeds: Sequence[int] = drawn.pop("seed").tolist() if "seed" in drawn else ()
    if seeds:
        drawn["z"] = np.stack([latents.sample_z(seed, z_dim) for seed in seeds])
    return drawn
