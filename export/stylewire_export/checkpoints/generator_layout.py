"""Which tensors a StyleGAN2 generator has, under the names of stylegan2-ada-pytorch.

The dimensions come from the shapes, never from a default; then the whole table is compared, so that a file with a
tensor too few or too many is refused with the names. Shape legend: r block resolution, I O channels, T filter taps.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

from stylewire_export.checkpoints.config import Architecture, GeneratorConfig
from stylewire_export.checkpoints.shapes import MAX_RESOLUTION_PX, Shape, Shapes, compare_shapes, linear_shapes
from stylewire_export.errors import CheckpointError

W_AVG = "mapping.w_avg"  # the one tensor that may be missing: it can be sampled (Karras et al. 2019, appendix B)
FILTER = "resample_filter"


def infer_config(
    shapes: Mapping[str, Shape], taps: tuple[float, ...], *, label_concat: bool = False
) -> GeneratorConfig:
    """Read the dimensions of a generator from its shapes, and compare all shapes with them.

    Args:
        shapes: NVIDIA name -> shape, ``mapping.w_avg`` optional.
        taps: of the up-sampling filter, sum 1.
        label_concat: the family embeds labels without bias.

    Returns:
        The configuration, with defaults for everything that does not follow from shapes.

    Raises:
        CheckpointError: a tensor is missing, surplus or of another shape.
    """
    known = Shapes(shapes)
    resolutions = _resolutions(shapes)
    last = f"synthesis.b{resolutions[-1]}"
    conditional = "mapping.embed.weight" in shapes
    embed_dim = known.size("mapping.embed.weight", 0) if conditional else 0
    config = GeneratorConfig(
        z_dim=known.size("mapping.fc0.weight", 1) - embed_dim,
        w_dim=known.size("synthesis.b4.conv1.affine.weight", 1),
        label_dim=known.size("mapping.embed.weight", 1) if conditional else 0,
        embed_dim=embed_dim,
        label_concat=label_concat and conditional,
        layer_dim=known.size("mapping.fc0.weight", 0),
        mapping_layer_count=known.count("mapping.fc{}.weight"),
        resolution_px=resolutions[-1],
        image_channels=known.size(f"{last}.torgb.weight", 0),
        architecture=_architecture(known, last),
        channels=tuple((r, known.size(f"synthesis.b{r}.conv1.weight", 0)) for r in resolutions),
        use_noise="synthesis.b4.conv1.noise_strength" in shapes,
        resample_filter=taps,
    )
    if config.z_dim < 1:
        raise CheckpointError("the generator has no z input (labels only), which is not supported")
    compare_shapes(shapes, generator_shapes(config), optional=(W_AVG,))
    return config


def _resolutions(shapes: Iterable[str]) -> list[int]:
    found = {int(match[1]) for name in shapes if (match := re.match(r"synthesis\.b(\d{1,20})\.", name))}
    expected = [4 << step for step in range(len(found))]
    if not found or sorted(found) != expected:
        raise CheckpointError(f"blocks of resolutions {sorted(found)[:12]} are no generator (4, 8, 16 ... px)")
    if expected[-1] < 8 or expected[-1] > MAX_RESOLUTION_PX:
        raise CheckpointError(f"resolution {expected[-1]} px is not supported (8 to {MAX_RESOLUTION_PX} px are)")
    return expected


def _architecture(known: Shapes, last: str) -> Architecture:
    if f"{last}.skip.weight" in known:
        return "resnet"
    return "skip" if "synthesis.b4.torgb.weight" in known else "orig"


def generator_shapes(config: GeneratorConfig) -> dict[str, Shape]:
    """List every tensor of a generator with its shape, under the names of stylegan2-ada-pytorch."""
    shapes: dict[str, Shape] = {W_AVG: (config.w_dim,)}
    if config.label_dim:
        shapes |= linear_shapes("mapping.embed", config.label_dim, config.embed_dim)
    if config.label_concat:
        del shapes["mapping.embed.bias"]
    sizes = [config.z_dim + config.embed_dim, *[config.layer_dim] * (config.mapping_layer_count - 1), config.w_dim]
    for index, (in_size, out_size) in enumerate(pairwise(sizes)):
        shapes |= linear_shapes(f"mapping.fc{index}", in_size, out_size)
    in_channels = 0
    for resolution, out_channels in config.channels:
        shapes |= _block(config, resolution, in_channels, out_channels)
        in_channels = out_channels
    return shapes


def _block(config: GeneratorConfig, resolution: int, in_channels: int, out_channels: int) -> dict[str, Shape]:
    name, square = f"synthesis.b{resolution}", (len(config.resample_filter),) * 2
    shapes: dict[str, Shape] = {f"{name}.{FILTER}": square}
    convs = {"conv1": out_channels}
    if resolution == 4:
        shapes[f"{name}.const"] = (out_channels, 4, 4)
    else:
        convs = {"conv0": in_channels, **convs}
    for conv, conv_in in convs.items():
        shapes |= {f"{name}.{conv}.weight": (out_channels, conv_in, 3, 3), f"{name}.{conv}.bias": (out_channels,)}
        shapes |= {f"{name}.{conv}.{FILTER}": square, **linear_shapes(f"{name}.{conv}.affine", config.w_dim, conv_in)}
        if config.use_noise:
            shapes |= {f"{name}.{conv}.noise_strength": (), f"{name}.{conv}.noise_const": (resolution, resolution)}
    if config.architecture == "skip" or resolution == config.resolution_px:
        shapes |= {f"{name}.torgb.weight": (config.image_channels, out_channels, 1, 1)}
        shapes |= {f"{name}.torgb.bias": (config.image_channels,)}
        shapes |= linear_shapes(f"{name}.torgb.affine", config.w_dim, out_channels)
    if config.architecture == "resnet" and resolution > 4:
        shapes |= {f"{name}.skip.weight": (out_channels, in_channels, 1, 1), f"{name}.skip.{FILTER}": square}
    return shapes
