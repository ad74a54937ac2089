"""Pickles of stylegan2-ada-pytorch and of the stylegan3 repository: nested modules with their attributes.

The source text that such a file carries is never run. The network follows from the tensors; attributes are read only
where they change the numbers. Source: format notes 1, section 2.
"""

from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple

from stylewire_export.checkpoints.config import GeneratorCheckpoint
from stylewire_export.checkpoints.generators import GeneratorTraits, build_generator
from stylewire_export.checkpoints.pickles.safe_globals import PersistentObject
from stylewire_export.checkpoints.tensors import TensorRecord
from stylewire_export.errors import CheckpointError, quote

MAX_MODULES = 2000  # 4096 px make about 150
MAX_TENSORS = 10_000

_SQRT2 = 2**0.5
_TOLERANCE = 1e-6
_LARGEST = 1e9  # of gains and limits
_REQUIRED: dict[str, dict[str, object]] = {  # attribute -> the only supported value, by the last part of a name
    "conv0": {"activation": "lrelu", "up": 2, "padding": 1, "act_gain": _SQRT2},
    "conv1": {"activation": "lrelu", "up": 1, "padding": 1, "act_gain": _SQRT2},
    "skip": {"activation": "linear", "up": 2, "conv_clamp": None},
    "affine": {"activation": "linear", "bias_gain": 1.0},
    "embed": {"activation": "linear", "bias_gain": 1.0},
    "fc": {"activation": "lrelu"},
}


class Module(NamedTuple):
    """One module of the network: its dotted name and its attributes."""

    name: str
    attributes: Mapping[str, object]

    @property
    def kind(self) -> str:
        """Last part of the name without its number for numbered linear layers: conv0, torgb, fc ..."""
        last = self.name.rpartition(".")[2]
        return "fc" if last.startswith("fc") else last

    def section(self, key: str) -> dict[str, object]:
        """Return ``_parameters``, ``_buffers`` or ``_modules``.

        Raises:
            CheckpointError: it is no dictionary.
        """
        section = self.attributes.get(key, {})
        if type(section) is not dict:
            raise CheckpointError(f"{quote(key)} of module {quote(self.name)} is no dictionary")
        return section


def is_nvidia(root: object) -> bool:
    """Recognize a snapshot of NVIDIA's PyTorch code by its networks."""
    return type(root) is dict and any(type(root.get(key)) is PersistentObject for key in ("G_ema", "G", "D"))


def read_nvidia(root: dict[str, object], file_bytes: int) -> GeneratorCheckpoint:
    """Read the running average ``G_ema`` of a snapshot; ``G``, ``D`` and the rest are ignored.

    Args:
        root: the object of the pickle.
        file_bytes: size of the file, bounds the copies.

    Raises:
        CheckpointError: it is no StyleGAN2 generator, or one with attributes that are not supported.
    """
    network = root.get("G_ema")
    if type(network) is not PersistentObject:
        raise CheckpointError("a pickle of NVIDIA without the generator G_ema, the running average")
    modules = list(_modules(network))
    if any(module.name == "synthesis.input" for module in modules):
        raise CheckpointError("a StyleGAN3 generator, another architecture; StyleGAN2 generators are supported")
    records = dict(_tensors(modules))
    if not records:
        raise CheckpointError(
            f"the network {quote(network.class_name)} has no parameters: it is incomplete or of an unknown kind"
        )
    checkpoint = build_generator(records, _traits(modules), file_bytes=file_bytes)
    _compare(modules[0], checkpoint)
    return checkpoint


def _modules(network: PersistentObject) -> Iterator[Module]:
    """Yield every module, parents first, up to ``MAX_MODULES``: a module may have many parents."""
    pending, count = [Module("", _attributes(network))], 0
    while pending:
        module = pending.pop()
        count += 1
        if count > MAX_MODULES:
            raise CheckpointError(f"the network has more than {MAX_MODULES} modules; no generator does")
        yield module
        for name, child in module.section("_modules").items():
            if type(child) is not PersistentObject or not name:
                raise CheckpointError(f"module {quote(module.name)} holds something that is no module")
            pending.append(Module(f"{module.name}.{name}".lstrip("."), _attributes(child)))


def _attributes(record: PersistentObject) -> Mapping[str, object]:
    assert isinstance(record.state, dict)  # required where the record is made; keys that are no text match nothing
    return record.state


def _tensors(modules: list[Module]) -> Iterator[tuple[str, TensorRecord]]:
    count = 0
    for module in modules:
        for section in ("_parameters", "_buffers"):
            for key, value in module.section(section).items():
                if value is not None and type(value) is not TensorRecord:
                    raise CheckpointError(f"{quote(key)} of module {quote(module.name)} is no tensor")
                if value is not None:
                    yield f"{module.name}.{key}".lstrip("."), value
        count += len(module.section("_parameters")) + len(module.section("_buffers"))
        if count > MAX_TENSORS:
            raise CheckpointError(f"the network has more than {MAX_TENSORS} tensors; no generator does")


def _traits(modules: list[Module]) -> GeneratorTraits:
    for module in modules:
        for key, value in _REQUIRED.get(module.kind, {}).items():
            found = module.attributes.get(key, value)
            if found != value and not _is_close(found, value):
                raise CheckpointError(
                    f"{key} of layer {quote(module.name)} is {quote(found)}; only {value!r} is supported"
                )
        _check_gain(module)
    blocks = [module for module in modules if module.name.startswith("synthesis.b") and module.name.count(".") == 1]
    of_stylegan3 = any("fused_modconv_default" in block.attributes for block in blocks)
    return GeneratorTraits(
        family="stylegan3-repository" if of_stylegan3 else "stylegan2-ada-pytorch",
        mapping_lr_multiplier=_lr_multiplier(modules),
        conv_clamp=_clamp(modules),
        fp16_resolution_count=sum(block.attributes.get("use_fp16") is True for block in blocks),
    )


def _check_gain(module: Module) -> None:
    """Equalized learning rates follow from the fan-in; a file with others is no StyleGAN2."""
    weight, gain = module.section("_parameters").get("weight"), module.attributes.get("weight_gain")
    if gain is None or type(weight) is not TensorRecord:
        return
    multiplier = _number(module, "bias_gain", 1.0) or 1.0
    if not _is_close(gain, expected := multiplier / max(1, prod(weight.shape[1:])) ** 0.5):
        raise CheckpointError(
            f"weight_gain of layer {quote(module.name)} is {quote(gain)} where {expected:g} is expected"
        )


def _clamp(modules: list[Module]) -> float | None:
    layers = [module for module in modules if module.kind in ("conv0", "conv1", "torgb")]
    values = {_number(module, "conv_clamp", None) for module in layers}
    if len(values) > 1:
        raise CheckpointError("the layers have different limits (conv_clamp), which is not supported")
    return next(iter(values), None)


def _lr_multiplier(modules: list[Module]) -> float:
    values = {_number(module, "bias_gain", 0.01) for module in modules if module.kind == "fc"}
    if len(values) > 1:
        raise CheckpointError("the mapping layers have different values of bias_gain, which is not supported")
    return next(iter(values), None) or 0.01


def _number(module: Module, key: str, default: float | None) -> float | None:
    value = module.attributes.get(key, default)
    if value is None:
        return None
    if isinstance(value, int | float) and type(value) is not bool and 0 < value < _LARGEST:
        return float(value)
    raise CheckpointError(f"{key} of layer {quote(module.name)} is {quote(value)}, which is no positive number")


def _is_close(found: object, expected: object) -> bool:
    if not isinstance(found, int | float) or not isinstance(expected, int | float):
        return False
    return bool(abs(found - expected) <= _TOLERANCE * abs(expected))


def _compare(generator: Module, checkpoint: GeneratorCheckpoint) -> None:
    """The attributes must describe the network that the tensors make."""
    config = checkpoint.config
    expected = {
        "z_dim": config.z_dim,
        "c_dim": config.label_dim,
        "w_dim": config.w_dim,
        "img_resolution": config.resolution_px,
        "img_channels": config.image_channels,
        "num_ws": 2 * len(config.channels),
    }
    for key, value in expected.items():
        if (found := generator.attributes.get(key, value)) != value:
            raise CheckpointError(f"the file says that {key} is {quote(found)}, but its tensors make it {value}")
