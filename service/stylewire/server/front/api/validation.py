"""The parts of a request -> the parts of a job. All violations are found at once, before anything may join a batch.

A part that is wrong becomes a violation and is parsed as a harmless value, so that parsing goes on; ``finish`` raises.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from stylewire import latents, pb
from stylewire.errors import StylewireError, UnsupportedError
from stylewire.latents import Array, Array64
from stylewire.media.codecs import ImageError, ImageFormat
from stylewire.server.engine_api.engine import Lease
from stylewire.server.engine_api.models import ModelInfo
from stylewire.server.front.api import enums
from stylewire.server.front.api.limits import Limits
from stylewire.server.front.api.violations import Violations
from stylewire.server.front.pipeline import jobs
from stylewire.server.front.preprocessing import photos

T = TypeVar("T")

_SOURCES = "seed, z, w, w_plus or image"


class RequestValidator(Violations):
    """Parses one request.

    Args:
        models: those that requests may name.
        limits: what is refused.
        model: the request's model; empty for the default.

    Raises:
        ModelNotFoundError: there is no such model. Raised by the methods too: without the model nothing can be checked.
    """

    def __init__(self, models: Lease, limits: Limits, model: str) -> None:
        super().__init__()
        self.model = models.get(model)
        self._models, self._limits = models, limits

    def needs_picture(self) -> None:
        """Require that the job can make images."""
        self.needs(self.model, "synthesis" if self.model.styled else "generator")

    def needs_styles(self, what: str) -> None:
        """Require a generator with styles."""
        if not self.model.styled:
            self.refuse(UnsupportedError(f"model {self.model.name!r} is a generator without styles: it has no {what}"))

    def needs(self, model: ModelInfo, graph: str) -> None:
        """Require a graph that the job will run."""
        if refusal := self._models.refusal(model, graph):
            self.refuse(refusal)

    def latents(self, path: str, messages: Sequence[pb.Latent], least: int) -> tuple[jobs.Latent, ...]:
        """Parse a list of latents."""
        self._count(path, len(messages), least)
        return tuple(
            self.latent(f"{path}[{index}]", message)
            for index, message in enumerate(messages[: self._limits.max_latents])
        )

    def styles(self, path: str, messages: Sequence[pb.StyleSource]) -> tuple[jobs.Style, ...]:
        """Parse the styles of a mixture."""
        self._count(path, len(messages), 1)
        return tuple(
            jobs.Style(
                latent=self.latent(f"{path}[{index}].latent", message.latent),
                layers=self._layers(f"{path}[{index}].layer_range", message.layer_range),
                weight=self.number(f"{path}[{index}].weight", message.weight, 0, 1)
                if message.HasField("weight")
                else 1.0,
            )
            for index, message in enumerate(messages[: self._limits.max_latents])
        )

    def latent(self, path: str, message: pb.Latent) -> jobs.Latent:
        """Parse one latent."""
        model = self._models.get(message.model) if message.model else self.model
        if not _exchange_codes(model, self.model):
            self.refuse(
                UnsupportedError(
                    f"{path}.model: codes of {model.name!r} mean nothing to {self.model.name!r}: they have different "
                    "latent spaces"
                )
            )
        z, code, photo = self._source(path, message, model)
        psi = None
        if message.HasField("truncation") and not self.model.styled:
            self.needs_styles("truncation")
        elif message.HasField("truncation"):
            truncation = message.truncation
            psi = self.number(f"{path}.truncation.psi", truncation.psi, -2, 2) if truncation.HasField("psi") else 0.7
        return jobs.Latent(
            model=model,
            z=z,
            seed=message.seed if message.HasField("seed") else None,
            code=code,
            photo=photo,
            label=self._label(path, message, model),
            psi=psi,
            truncated_layers=self._layers(f"{path}.truncation.layer_range", message.truncation.layer_range),
        )

    def photo(self, path: str, message: pb.ImageSource, model: ModelInfo) -> photos.Photo | None:
        """Parse a photo; decodes it, so call this off the event loop."""
        art = self.enum(f"{path}.alignment", message.alignment, enums.ALIGNMENTS, fallback=None)
        landmarks = None
        if message.HasField("landmarks") and art == "face":
            landmarks, art = points(message.landmarks), None
        elif message.HasField("landmarks"):
            self.wrong(f"{path}.landmarks", "are only used with FACE alignment; leave them out or set alignment")
        if not message.content:
            self.wrong(f"{path}.content", "is empty; required, a PNG, JPEG or WebP file")
            return None
        try:
            encoder = model.encoder(message.encoder)
            self.needs(model, encoder.graph)
            if art:
                photos.check_search(message.content, art, self._limits)
                return photos.UnalignedPhoto(
                    model=model,
                    graph=encoder.graph,
                    kind=encoder.input_kind,
                    path=path,
                    content=message.content,
                    art=art,
                    encoder=encoder,
                )
            return photos.prepare(message.content, landmarks, model, encoder, self._limits)
        except ImageError as err:
            self.wrong(f"{path}.content", str(err))
        except photos.LandmarkError as err:
            self.wrong(f"{path}.landmarks", str(err))
        except StylewireError as err:
            self.refuse(err)
        return None

    def target(self, path: str, message: pb.ImageSource) -> Array | None:
        """Parse a photo that the generator is to draw; off the event loop, as ``photo``."""
        if self.model.manifest.image_channels not in (1, 3):
            self.refuse(UnsupportedError(f"model {self.model.name!r} draws an alpha channel, which no photo has"))
        elif message.alignment in enums.ALIGNMENTS.keys() - {pb.ALIGNMENT_FACE} and message.HasField("landmarks"):
            self.wrong(f"{path}.landmarks", "are only used with FACE alignment; leave them out or set alignment")
        elif message.alignment and message.alignment != pb.ALIGNMENT_NONE and not message.HasField("landmarks"):
            self.refuse(UnsupportedError(f"{path}: projections need landmarks for this alignment; send them"))
        elif not message.content:
            self.wrong(f"{path}.content", "is empty; required, a PNG, JPEG or WebP file")
        else:
            landmarks = points(message.landmarks) if message.HasField("landmarks") else None
            try:
                return photos.prepare_target(message.content, landmarks, self.model, self._limits)
            except ImageError as err:
                self.wrong(f"{path}.content", str(err))
            except photos.LandmarkError as err:
                self.wrong(f"{path}.landmarks", str(err))
        return None

    def count(self, path: str, value: int, least: int, most: int) -> int:
        """Parse a whole number of a closed range."""
        if not least <= value <= most:
            self.wrong(path, f"is {value}; expected {least} to {most}")
        return value

    def noise(self, path: str, message: pb.Noise) -> jobs.Noise:
        """Parse the pixel noise."""
        mode = self.enum(f"{path}.mode", message.mode, enums.NOISE_MODES, jobs.NoiseMode.CONST)
        if message.HasField("seed") and mode is not jobs.NoiseMode.RANDOM:
            self.wrong(f"{path}.seed", "is only used with RANDOM; leave it out or set mode")
        if message.seed < 0:
            self.wrong(f"{path}.seed", f"is {message.seed}; expected 0 to 2^63 - 1")
        strength = 1.0
        if message.HasField("strength"):
            strength = self.number(f"{path}.strength", message.strength, 0, 10)
            if mode is jobs.NoiseMode.NONE:
                self.wrong(f"{path}.strength", "means nothing with NONE; leave it out or change mode")
        values = None
        if mode is jobs.NoiseMode.VALUES:
            values = self.tensor(f"{path}.values", message.values, (self.model.manifest.noise_size,))
        elif message.HasField("values"):
            self.wrong(f"{path}.values", "are only used with VALUES; leave them out or set mode")
        return jobs.Noise(mode=mode, seed=max(0, message.seed), strength=strength, values=values)

    def output(self, path: str, message: pb.OutputConfig, image_count: int = 1) -> jobs.Output:
        """Parse the form of the images, which must fit into one reply."""
        form = self.enum(f"{path}.format", message.format, enums.FORMS, ImageFormat.PNG)
        if form is ImageFormat.JPEG and self.model.manifest.image_channels in (2, 4):
            self.wrong(f"{path}.format", "JPEG has no alpha, and this model makes it; ask for PNG or WEBP")
        quality = message.quality if message.HasField("quality") else None
        if quality is not None and form not in (ImageFormat.JPEG, ImageFormat.WEBP):
            self.wrong(f"{path}.quality", "is only used with JPEG and WEBP; leave it out")
        elif quality is not None and not 1 <= quality <= 100:
            self.wrong(f"{path}.quality", f"is {quality}; expected 1 to 100")
        resolution_px = message.resolution_px if message.HasField("resolution_px") else None
        most = self.model.manifest.resolution_px
        if resolution_px is not None and not 1 <= resolution_px <= most:
            self.wrong(f"{path}.resolution_px", f"is {resolution_px}; expected 1 to {most}, the model's own")
        elif resolution_px is not None and form == "tensor":
            self.wrong(f"{path}.resolution_px", "is not used with TENSOR; leave it out")
        value_bytes = {"tensor": 4, "pixels": 1}.get(form, 0)
        reply_bytes = image_count * value_bytes * self.model.manifest.image_channels * (resolution_px or most) ** 2
        if reply_bytes > self._limits.max_message_bytes:
            limit = self._limits.max_message_bytes
            self.wrong(f"{path}.format", f"makes a reply of {reply_bytes} bytes; the limit is {limit}: ask for less")
        return jobs.Output(form=form, quality=quality, resolution_px=resolution_px)

    def _source(
        self, path: str, message: pb.Latent, model: ModelInfo
    ) -> tuple[Array | None, Array | None, photos.Photo | None]:
        """Parse z, code or photo; all None when the source is wrong."""
        manifest = model.manifest
        kind = message.WhichOneof("source")
        if kind in ("seed", "z"):
            self.needs(model, "mapping" if model.styled else "generator")
        elif kind:
            self.needs_styles("codes; send a seed or z")
        match kind:
            case "seed" if not 0 <= message.seed < 2**32:
                self.wrong(f"{path}.seed", f"is {message.seed}; expected 0 to 4294967295")
            case "seed":
                return latents.sample_z(message.seed, manifest.z_dim), None, None
            case "z":
                return self.tensor(f"{path}.z", message.z, (manifest.z_dim,)), None, None
            case "w" if model.styled:
                w = self.tensor(f"{path}.w", message.w, (manifest.w_dim,))
                return None, None if w is None else latents.broadcast(w, manifest.layer_count), None
            case "w_plus" if model.styled:
                shape = (manifest.layer_count, manifest.w_dim)
                return None, self.tensor(f"{path}.w_plus", message.w_plus, shape), None
            case "image" if model.styled:
                return None, None, self.photo(f"{path}.image", message.image, model)
            case None:
                self.wrong(f"{path}.source", f"is unset; required, one of {_SOURCES}")
        return None, None, None

    def _label(self, path: str, message: pb.Latent, model: ModelInfo) -> Array | None:
        label_dim = model.manifest.label_dim
        kind = message.WhichOneof("condition")
        mapped = message.WhichOneof("source") in ("seed", "z")
        if kind and not (label_dim and mapped):
            why = "this latent needs no label: its code is given" if label_dim else "this model has no classes"
            self.wrong(f"{path}.{kind}", f"{why}; leave it out")
        elif kind == "label":
            return self.tensor(f"{path}.label", message.label, (label_dim,))
        elif kind == "class_index" and not 0 <= message.class_index < label_dim:
            self.wrong(f"{path}.class_index", f"is {message.class_index}; expected 0 to {label_dim - 1}")
        elif kind == "class_index":
            label = np.zeros(label_dim, np.float32)
            label[message.class_index] = 1
            return label
        elif label_dim and mapped:
            self.wrong(f"{path}.class_index", f"is unset; this model needs a class, 0 to {label_dim - 1}, or a label")
        return None

    def _layers(self, path: str, message: pb.LayerRange) -> slice:
        count = self.model.manifest.layer_count
        if not self.model.styled:  # refused elsewhere; there are no layers to compare with
            return slice(0)
        start = message.start_layer
        end = message.end_layer if message.HasField("end_layer") else count
        if not 0 <= start < count:
            self.wrong(f"{path}.start_layer", f"is {start}; expected 0 to {count - 1}")
        elif not start < end <= count:
            self.wrong(f"{path}.end_layer", f"is {end}; expected {start + 1} to {count}")
        return slice(start, end)

    def _count(self, path: str, count: int, least: int) -> None:
        most = self._limits.max_latents
        if not least <= count <= most:
            self.wrong(path, f"has {count} elements; expected {least} to {most}")


def points(landmarks: pb.Landmarks) -> Array64:
    """Parse landmarks as float64[n, 2]."""
    return np.array([(point.x_px, point.y_px) for point in landmarks.points], np.float64).reshape(-1, 2)


def _exchange_codes(one: ModelInfo, other: ModelInfo) -> bool:
    """Return whether codes may cross; equal ids of latent spaces alone do not make shapes equal."""
    if not one.styled:
        return one is other
    return all(
        getattr(one.manifest, name) == getattr(other.manifest, name)
        for name in ("latent_space", "layer_count", "w_dim")
    )
