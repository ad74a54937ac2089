"""The manifest of a model directory: ``model.json`` beside the graphs.

What follows from the files of the directory (which graphs exist, hence which calls the model can answer) is derived
from them and never declared a second time. Read with pydantic, because a manifest is outside input.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FILE_NAME = "model.json"
CHECK_FILE, W_MEAN_FILE = "check.npz", "w_mean.npy"
"""Self-check vectors, and the center of truncation where the model has one."""
MODEL_NAME_PATTERN = r"^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$"
GRAPH_NAME_PATTERN = r"^(mapping|synthesis|generator|encoder(-[a-z0-9_]{1,40})?)$"

Role = Literal["coarse", "middle", "fine"]
Count = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1, le=65536)]
LabelName = Annotated[str, Field(min_length=1, max_length=100)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ManifestError(ValueError):
    """A model directory cannot be used; the message names the directory, the field and the fix."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LayerInfo(_Record):
    """One row of a w+ code."""

    resolution_px: Size
    role: Role


class EncoderInfo(_Record):
    """One encoder graph.

    Attributes:
        graph: the graph's name, ``encoder`` for the default one, ``encoder-<task>`` for others.
        task: what it was trained for, such as ``encode``, ``seg`` or ``super_resolution``.
        input_kind: how a picture becomes its input (``stylewire.server.front.preprocessing.transforms``).
        input_channels: channels of the input; for labels the number of classes.
        reduction: a photo is reduced by this factor and enlarged again before the encoder sees it, as for every input
            of the original super-resolution with this factor; None takes the photo as it is.
    """

    graph: Annotated[str, Field(pattern=GRAPH_NAME_PATTERN)]
    task: str
    input_kind: Literal["photo", "sketch", "labels"]
    input_channels: Size
    input_height_px: Size
    input_width_px: Size
    reduction: Size | None = None

    @model_validator(mode="after")
    def _check_reduction(self) -> Self:
        if self.reduction is not None:
            if self.input_kind != "photo":
                raise ValueError(f"reduction is for photos, not for {self.input_kind}")
            if self.reduction > min(self.input_height_px, self.input_width_px):
                raise ValueError(f"reduction by {self.reduction} leaves nothing of the input")
        return self


class FileInfo(_Record):
    """Digest and size of one file of the directory."""

    sha256: Sha256
    size_bytes: Count


class SourceInfo(_Record):
    """One checkpoint that the model was exported from."""

    name: str
    family: str
    sha256: Sha256


class ArtifactCheck(_Record):
    """What the export measured on one graph file against PyTorch.

    Attributes:
        file: name of the graph file.
        precision: what its weights and activations are in; all are compared with float32.
        batch_sizes: the batch sizes compared.
        errors: output name -> largest absolute difference, relative to the output's range (``pixels``: in levels).
        psnr_db: range over rms error of the codes or the float image, the worst of all batches; 200 if all are equal.
    """

    file: str
    precision: Literal["fp32", "fp16"] = "fp32"
    batch_sizes: tuple[int, ...]
    errors: Mapping[str, float]
    psnr_db: float | None = None


class Manifest(_Record):
    """Everything about a model that its graphs do not contain.

    Attributes:
        latent_space: id shared by a base model and all that was fine-tuned or blended from it; codes may cross only
            inside one id.
        w_dim: D; 0 for a generator without styles, which has the graph ``generator`` instead of mapping and synthesis.
        label_names: names of the labels by index; empty if nobody named them.
        layer_count: L; 0 for a generator without styles.
        noise_size: P, the number of values of all noise maps together; 0 for a generator without noise.
        pixel_rule: how the graph turns the float image into bytes: ``round`` as NVIDIA's tools, ``truncate`` as pSp's.
        notes: what a person should know about the checkpoints, as the export printed it.
        license: SPDX id or a short text; checkpoints do not carry one, so the person who exports adds it.
    """

    schema_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=MODEL_NAME_PATTERN)]
    architecture: str
    resolution_px: Size
    image_channels: Annotated[int, Field(ge=1, le=4)]
    z_dim: Size
    w_dim: Annotated[int, Field(ge=0, le=65536)]
    label_dim: Count = 0
    label_names: tuple[LabelName, ...] = ()
    layer_count: Count
    layers: tuple[LayerInfo, ...]
    noise_size: Count
    latent_space: Annotated[str, Field(min_length=1, max_length=200)]
    pixel_rule: Literal["round", "truncate"] = "round"
    precision: Literal["fp32"] = "fp32"
    encoders: tuple[EncoderInfo, ...] = ()
    license: str = ""
    attribution: str = ""
    sources: tuple[SourceInfo, ...] = ()
    notes: tuple[str, ...] = ()
    checks: tuple[ArtifactCheck, ...] = ()
    files: Mapping[str, FileInfo]

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if len(self.layers) != self.layer_count:
            raise ValueError(f"layers: {len(self.layers)} entries, layer_count is {self.layer_count}")
        if (self.w_dim == 0) != (self.layer_count == 0):
            raise ValueError(f"w_dim {self.w_dim} and layer_count {self.layer_count}: either both are 0 or none")
        if self.label_names and len(self.label_names) != self.label_dim:
            raise ValueError(f"label_names: {len(self.label_names)} entries, label_dim is {self.label_dim}")
        if len(set(self.label_names)) != len(self.label_names):
            raise ValueError("label_names: two labels have the same name")
        for name in self.files:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or PurePosixPath(name).name != name:
                raise ValueError(f"files: {name[:80]!r} is not the plain name of a file in the directory")
        graphs = [encoder.graph for encoder in self.encoders]
        if len(set(graphs)) != len(graphs):
            raise ValueError("encoders: two encoders name the same graph")
        return self

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read and check ``directory/model.json``; the files it names are checked by ``verify_files``.

        Raises:
            ManifestError: the file is absent, not JSON, or a field is wrong; every wrong field is named.
        """
        path = directory / FILE_NAME
        try:
            return cls.model_validate(json.loads(path.read_bytes()))
        except FileNotFoundError as err:
            raise ManifestError(f"{directory} is not a model directory: it has no {FILE_NAME}") from err
        except ValidationError as err:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'manifest'}: {e['msg']}" for e in err.errors())
            raise ManifestError(f"{path}: {wrong}") from err
        except ValueError as err:
            raise ManifestError(f"{path} is not JSON: {err}") from err

    def write(self, directory: Path) -> None:
        """Write ``directory/model.json``; an existing one is replaced."""
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False)
        (directory / FILE_NAME).write_text(text + "\n", encoding="utf-8")

    def digest(self) -> str:
        """Return the SHA-256 over name, size and digest of every file: the same digest means the same images."""
        lines = (f"{name} {info.size_bytes} {info.sha256}\n" for name, info in sorted(self.files.items()))
        return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()

    def graphs(self, suffix: str) -> tuple[str, ...]:
        """List the graphs that exist as files with this suffix, such as ``.onnx`` or ``.fp16.onnx``."""
        found = (name.removesuffix(suffix) for name in self.files if name.endswith(suffix))
        return tuple(sorted(name for name in found if re.fullmatch(GRAPH_NAME_PATTERN, name)))

    def verify_files(self, directory: Path, read: Collection[str] | None = None, *, others: bool = True) -> None:
        """Compare every file with its size, and those that are read with their digests.

        Args:
            directory: of the model.
            read: names of the files whose digests count; None for all.
            others: whether those that are not read have to be there.

        Raises:
            ManifestError: a file is absent or differs; all of them are named.
        """
        wrong = list(self._wrong_files(directory, self.files if read is None else read, others=others))
        if wrong:
            raise ManifestError(f"{directory}: {'; '.join(wrong)}; copy the directory again or export it anew")

    def _wrong_files(self, directory: Path, read: Collection[str], *, others: bool) -> Iterator[str]:
        for name, info in self.files.items():
            path = directory / name
            if not others and name not in read:
                continue
            if not path.is_file():
                yield f"{name} is absent"
            elif path.stat().st_size != info.size_bytes:
                yield f"{name} has {path.stat().st_size} bytes, the manifest has {info.size_bytes}"
            elif name in read and file_info(path).sha256 != info.sha256:
                yield f"{name} differs from the manifest's SHA-256"


def file_info(path: Path) -> FileInfo:
    """Return digest and size of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileInfo(sha256=digest, size_bytes=path.stat().st_size)
