"""Every kind of generator in one form: its graphs, and its entries in the manifest."""

import hashlib
from dataclasses import dataclass

from torch import nn

from stylewire.latents import Array, layer_resolutions
from stylewire_export.checkpoints.config import (
    AnimeConfig,
    AnyGenerator,
    GeneratorCheckpoint,
    PixelRule,
    PlainCheckpoint,
)
from stylewire_export.checkpoints.families.anime import Z_DIM as ANIME_Z_DIM
from stylewire_export.errors import BundleError
from stylewire_export.graphs import Graph, generator_graph, mapping_graph, synthesis_graph
from stylewire_export.networks.generator import Generator
from stylewire_export.networks.loading import load_generator, load_plain, load_stylegan1
from stylewire_export.networks.stylegan1 import StyleGan1

_SAMPLED_MEAN = "the file has no mean of w: it was estimated from 10,000 seeded samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exportable:
    """A generator ready to export.

    Attributes:
        graphs: ``mapping`` and ``synthesis``, or ``generator`` alone for a generator without styles.
        latent_space: id derived from the weights; codes mean the same wherever it is the same.
        mean_w: float32[D], the center of truncation; None without styles.
        notes: what a person should know about it.

    The other attributes are those of ``stylewire.manifest.Manifest``; without styles, w_dim is 0 and there are no rows.
    """

    graphs: tuple[Graph, ...]
    architecture: str
    resolution_px: int
    image_channels: int
    z_dim: int
    label_dim: int
    latent_space: str
    w_dim: int = 0
    layer_resolutions_px: tuple[int, ...] = ()
    noise_size: int = 0
    pixel_rule: PixelRule = "round"
    mean_w: Array | None = None
    notes: tuple[str, ...] = ()


def make_exportable(checkpoint: AnyGenerator, z_dim: int | None = None) -> Exportable:
    """Make the network of a checkpoint and its graphs.

    Args:
        checkpoint: of any kind.
        z_dim: how many of the inputs of a generator without styles are z, the others being the label; None takes all,
            or 128 for anime faces.

    Raises:
        BundleError: the generator takes another z.
        CheckpointError: tensors are missing or left over.
    """
    if isinstance(checkpoint, PlainCheckpoint):
        return _without_styles(checkpoint, z_dim)
    if z_dim not in (None, checkpoint.config.z_dim):
        raise BundleError(f"this generator takes a z of {checkpoint.config.z_dim} numbers, not {z_dim}")
    if isinstance(checkpoint, GeneratorCheckpoint):
        notes = checkpoint.notes if checkpoint.has_w_avg else (*checkpoint.notes, _SAMPLED_MEAN)
        config, generator = checkpoint.config, load_generator(checkpoint)
        return _with_styles(
            generator, f"stylegan2-{config.architecture}", layer_resolutions(config.resolution_px), notes
        )
    generator1 = load_stylegan1(checkpoint)
    notes = (*checkpoint.notes, _SAMPLED_MEAN)
    return _with_styles(generator1, "stylegan1", generator1.synthesis.layer_resolutions_px, notes)


def check_label_names(names: tuple[str, ...], label_dim: int) -> None:
    """Refuse names that do not name every label once; no names at all are fine.

    Raises:
        BundleError: their number is another, one is empty, or two are equal.
    """
    if names and len(names) != label_dim:
        raise BundleError(f"{len(names)} label names do not fit {label_dim} labels")
    if not all(names) or len(set(names)) != len(names):
        raise BundleError("the label names must all be different, and none empty")


def latent_space_of(generator: Generator | StyleGan1) -> str:
    """Name the w space of a generator: models with equal mapping networks share it.

    ``w_avg`` does not take part, since it may drift in a fine-tuning that freezes the mapping network.
    """
    return _digest(generator.mapping)


def _with_styles(
    generator: Generator | StyleGan1, architecture: str, layer_resolutions_px: tuple[int, ...], notes: tuple[str, ...]
) -> Exportable:
    config = generator.config
    return Exportable(
        graphs=(mapping_graph(generator), synthesis_graph(generator)),
        architecture=architecture,
        resolution_px=config.resolution_px,
        image_channels=config.image_channels,
        z_dim=config.z_dim,
        label_dim=config.label_dim,
        latent_space=latent_space_of(generator),
        w_dim=config.w_dim,
        layer_resolutions_px=layer_resolutions_px,
        noise_size=generator.synthesis.noise_size,
        pixel_rule=config.pixel_rule,
        mean_w=generator.mapping.w_avg.numpy(),
        notes=notes,
    )


def _without_styles(checkpoint: PlainCheckpoint, z_dim: int | None) -> Exportable:
    config, network = checkpoint.config, load_plain(checkpoint)
    if z_dim is None:
        z_dim = min(ANIME_Z_DIM, config.input_dim) if isinstance(config, AnimeConfig) else config.input_dim
    if not 1 <= z_dim <= config.input_dim:
        raise BundleError(f"this generator takes {config.input_dim} numbers, so z cannot have {z_dim}")
    label_dim = config.input_dim - z_dim
    return Exportable(
        graphs=(generator_graph(network, z_dim, label_dim),),
        architecture=checkpoint.family,
        resolution_px=config.resolution_px,
        image_channels=config.image_channels,
        z_dim=z_dim,
        label_dim=label_dim,
        latent_space=_digest(network),  # z of one training means nothing to another
        notes=checkpoint.notes,
    )


def _digest(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name != "w_avg":
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:16]}"
