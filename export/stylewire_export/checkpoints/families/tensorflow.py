"""TensorFlow pickles of NVIDIA's stylegan2 and stylegan2-ada: networks as dictionaries of variables.

TensorFlow keeps kernels as [height, width, in, out] and linear weights as [in, out]; the up-sampling convolutions are
flipped and the bias of the styles lacks its 1. The source text inside is never run. Source: format notes 1, section 3.
"""

import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from stylewire_export.checkpoints.config import GeneratorCheckpoint
from stylewire_export.checkpoints.generator_layout import FILTER, W_AVG
from stylewire_export.checkpoints.generators import GeneratorTraits, build_generator
from stylewire_export.checkpoints.pickles.numpy_globals import NumpyArray
from stylewire_export.checkpoints.pickles.safe_globals import AttributeRecord
from stylewire_export.checkpoints.tensors import TensorRecord, bound_copies, to_float32, wrap_array
from stylewire_export.errors import CheckpointError, quote

Array = NDArray[np.float32]

_FAMILIES = {"G_synthesis_stylegan2": "stylegan2", "G_synthesis": "stylegan2-ada"}
_USUAL_KERNEL = [1, 3, 3, 1]
_REQUIRED = {  # option -> the only supported value, which is also the default
    "mapping_nonlinearity": "lrelu",
    "nonlinearity": "lrelu",
    "normalize_latents": True,
    "fmap_decay": 1.0,
}
_IGNORED = frozenset({"lod"})  # progress of progressive growing; always 0 in StyleGAN2


def is_tensorflow(root: object) -> bool:
    """Recognize a snapshot of NVIDIA's TensorFlow code by its networks."""
    return type(root) is tuple and any(type(part) is AttributeRecord for part in root)


def read_tensorflow(root: tuple[object, ...], file_bytes: int) -> GeneratorCheckpoint:
    """Read the running average Gs, the third network of (G, D, Gs).

    Args:
        root: the object of the pickle.
        file_bytes: size of the file, bounds the copies.

    Raises:
        CheckpointError: it is no StyleGAN2 generator, or one with options that are not supported.
    """
    if len(root) != 3:
        raise CheckpointError(f"a TensorFlow pickle of {len(root)} networks; the snapshots have (G, D, Gs)")
    network = _attributes(root[2])
    parts = network.get("components")
    if type(parts) is not dict or not {"mapping", "synthesis"} <= parts.keys():
        raise CheckpointError("a TensorFlow pickle whose third network has no mapping and synthesis network")
    mapping, synthesis = _attributes(parts["mapping"]), _attributes(parts["synthesis"])
    options = network.get("static_kwargs", {})
    if type(options) is not dict:
        raise CheckpointError("a TensorFlow pickle whose network has no options (static_kwargs)")
    variables = {
        **dict(_variables(network, "")),
        **dict(_variables(mapping, "mapping/")),
        **dict(_variables(synthesis, "synthesis/")),
    }
    traits = _traits(options, synthesis, variables)
    bound_copies(variables, file_bytes=file_bytes)
    records = dict(_converted(name, record) for name, record in variables.items())
    if len(records) != len(variables):
        raise CheckpointError("a TensorFlow pickle with two variables for the same tensor")
    if (kernel := options.get("resample_kernel", _USUAL_KERNEL)) != _USUAL_KERNEL:
        records[f"synthesis.b4.{FILTER}"] = wrap_array(_square(kernel))
    return build_generator(records, traits, file_bytes=file_bytes)


def _attributes(network: object) -> Mapping[str, object]:
    if type(network) is not AttributeRecord or type(network.state) is not dict:
        raise CheckpointError("a TensorFlow pickle with something that is no network")
    return network.state


def _variables(network: Mapping[str, object], prefix: str) -> Iterator[tuple[str, TensorRecord]]:
    """Yield the network's own variables; single numbers become tensors without axes."""
    variables = network.get("variables")
    if type(variables) is not list:
        raise CheckpointError("a TensorFlow pickle with a network that has no list of variables")
    for pair in variables:
        if type(pair) not in (tuple, list) or len(pair) != 2 or type(pair[0]) is not str:
            raise CheckpointError("a TensorFlow pickle whose variables are no pairs of a name and a value")
        name, value = pair
        if name in _IGNORED:
            continue
        if type(value) is float:
            yield prefix + name, wrap_array(np.array(value, np.float32)).labeled(name)
        elif type(value) is NumpyArray and value.tensor is not None:
            yield prefix + name, value.tensor.labeled(name)
        else:
            raise CheckpointError(f"variable {quote(name)} is no array")


def _traits(
    options: Mapping[str, object], synthesis: Mapping[str, object], variables: Mapping[str, object]
) -> GeneratorTraits:
    function = synthesis.get("build_func_name")
    if any("/StyleMod/" in name for name in variables):
        raise CheckpointError("a StyleGAN1 generator, another architecture; StyleGAN2 generators are supported")
    if any("ToRGB_lod" in name for name in variables):
        raise CheckpointError("a StyleGAN2 generator of configuration B to D (progressive growing), not supported")
    if not isinstance(function, str) or function not in _FAMILIES:
        raise CheckpointError(f"a TensorFlow generator of the unknown kind {quote(function)}; StyleGAN2 is supported")
    for key, value in _REQUIRED.items():
        if options.get(key, value) != value:
            raise CheckpointError(f"the option {key} is {quote(options[key])}; only {value!r} is supported")
    block_count = sum(name.endswith("/Conv0_up/weight") for name in variables)
    return GeneratorTraits(
        family=_FAMILIES[function],
        mapping_lr_multiplier=_positive(options, "mapping_lrmul", 0.01) or 0.01,
        conv_clamp=_positive(options, "conv_clamp", None),
        label_concat="mapping/LabelConcat/weight" in variables,
        fp16_resolution_count=min(int(_positive(options, "num_fp16_res", None) or 0), block_count),
    )


def _positive(options: Mapping[str, object], key: str, default: float | None) -> float | None:
    value = options.get(key, default)
    if value is None or value == 0:
        return None
    if isinstance(value, int | float) and 0 < value < 1e9:
        return float(value)
    raise CheckpointError(f"the option {key} is {quote(value)}, which is no positive number")


def _square(kernel: object) -> Array:
    if not isinstance(kernel, list) or not 2 <= len(kernel) <= 32:
        raise CheckpointError(f"the option resample_kernel is {quote(kernel)}, which is not supported")
    if any(not isinstance(tap, int | float) or not abs(tap) < 1e9 for tap in kernel) or not sum(kernel):
        raise CheckpointError(f"the option resample_kernel is {quote(kernel)}, which is not supported")
    taps = np.array(kernel, np.float64) / sum(kernel)
    return np.outer(taps, taps).astype(np.float32)


# Conversion: pattern of a variable's name -> NVIDIA's PyTorch name and the function that converts the array


def _as_is(array: Array) -> Array:
    return array


def _transposed(array: Array) -> Array:
    return array.transpose()  # [in, out] -> [out, in]


def _kernel(array: Array) -> Array:
    return array.transpose(3, 2, 0, 1) if array.ndim == 4 else array  # [h, w, in, out] -> [out, in, h, w]


def _flipped_kernel(array: Array) -> Array:
    return _kernel(array[::-1, ::-1] if array.ndim == 4 else array)


def _plus_one(array: Array) -> Array:
    return array + np.float32(1)


def _first(array: Array) -> Array:
    return array[0] if array.ndim == 4 and len(array) == 1 else array  # [1, O, 4, 4] -> [O, 4, 4]


def _map(array: Array) -> Array:
    return array[0, 0] if array.ndim == 4 and array.shape[:2] == (1, 1) else array  # [1, 1, r, r] -> [r, r]


_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb", "Skip": "skip"}
_PARTS: Mapping[str, tuple[str, Callable[[Array], Array]]] = {
    "weight": ("weight", _kernel),
    "bias": ("bias", _as_is),
    "mod_weight": ("affine.weight", _transposed),
    "mod_bias": ("affine.bias", _plus_one),
    "noise_strength": ("noise_strength", _as_is),
}
_LAYER_NAME = re.compile(r"synthesis/(\d{1,5})x\1/(Conv|Conv0_up|Conv1|ToRGB|Skip)/(\w+)")
_MAPPING_NAME = re.compile(r"mapping/(Dense(\d{1,3})|LabelEmbed|LabelConcat)/(weight|bias)")
_NOISE_NAME = re.compile(r"synthesis/noise(\d{1,2})")


def _converted(name: str, record: TensorRecord) -> tuple[str, TensorRecord]:
    target, convert = _target(name)
    return target, wrap_array(convert(to_float32(record, name))).labeled(record.label)


def _target(name: str) -> tuple[str, Callable[[Array], Array]]:
    if name == "dlatent_avg":
        return W_AVG, _as_is
    if name == "synthesis/4x4/Const/const":
        return "synthesis.b4.const", _first
    if match := _NOISE_NAME.fullmatch(name):
        number = int(match[1]) + 1  # noise0 belongs to conv1 of 4 px, then there are two for every resolution
        return f"synthesis.b{4 << number // 2}.conv{number % 2}.noise_const", _map
    if match := _MAPPING_NAME.fullmatch(name):
        layer = "embed" if match[2] is None else f"fc{int(match[2])}"
        return f"mapping.{layer}.{match[3]}", _transposed
    if (match := _LAYER_NAME.fullmatch(name)) and match[3] in _PARTS:
        part, convert = _PARTS[match[3]]
        if match[2] == "Conv0_up" and part == "weight":
            convert = _flipped_kernel
        return f"synthesis.b{match[1]}.{_LAYERS[match[2]]}.{part}", convert
    raise CheckpointError(f"variable {quote(name)} does not belong to a StyleGAN2 generator")
