"""Model directories as a Triton model repository.

Each graph of a model ``faces`` becomes a model at Triton with the tensors of the graph: ``faces.mapping``,
``faces.synthesis`` and so on; and all together the ensemble ``faces``, from z (and label) to pixels.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from google.protobuf.text_format import ParseError
from tritonclient.grpc.model_config_pb2 import ModelConfig

from stylewire.manifest import FILE_NAME, Manifest
from stylewire_export.errors import BundleError
from stylewire_export.staging import staging
from stylewire_export.triton.broadcast import write_broadcast_onnx, write_broadcast_torchscript
from stylewire_export.triton.config import (
    Serving,
    config_signature,
    config_text,
    ensemble_config,
    graph_config,
)
from stylewire_export.triton.signature import (
    Signature,
    broadcast_signature,
    differences,
    manifest_signature,
    onnx_signature,
    torchscript_signature,
)

BROADCAST = "broadcast"
CONFIG_FILE = "config.pbtxt"
_PYTHON_MODEL = Path(__file__).parent / "model.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryReport:
    """What was written.

    Attributes:
        directory: the repository.
        models: names of the models at Triton, ensembles first.
    """

    directory: Path
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Target:
    """Where the graphs of a model go.

    Attributes:
        directory: the repository.
        version: that they have at Triton.
        serving: how they are to run.
    """

    directory: Path
    version: str
    serving: Serving

    def add(self, config: ModelConfig) -> Path:
        """Write the configuration of a model, and return its version folder, which is empty."""
        folder = self.directory / str(config.name) / self.version
        folder.mkdir(parents=True)
        (folder.parent / CONFIG_FILE).write_text(config_text(config), encoding="utf-8")
        return folder


def find_models(path: Path) -> list[Path]:
    """Find model directories: the path itself, or those in it; of a model with versions, the highest.

    Raises:
        BundleError: there are none, or several versions of a model are no numbers.
    """
    if (path / FILE_NAME).is_file():
        return [path]
    found = [newest for each in sorted(path.glob("[!.]*")) if (newest := _newest(each))]
    if not found:
        raise BundleError(f"{path} is no model directory and has none in it: none has a {FILE_NAME}")
    return found


def write_repository(models: Sequence[Path], out: Path, serving: Serving, *, force: bool) -> RepositoryReport:
    """Write a repository with the graphs of some models.

    Raises:
        BundleError: an option does not fit, a graph differs from its manifest, or ``out`` may not be replaced.
        stylewire.manifest.ManifestError: a model directory is not usable.
    """
    _check_serving(serving)
    out = out.absolute()
    if out.exists() and not (force and _is_ours(out)):
        advice = "use --force to replace it" if _is_ours(out) else "it is no repository of ours; choose another --out"
        raise BundleError(f"{out} exists: {advice}")
    manifests = {path: Manifest.read(path) for path in models}
    names = [manifest.name for manifest in manifests.values()]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BundleError(f"several models are named {', '.join(sorted(twice))}: name one of them as MODELS")
    with staging(out.parent, out.name) as directory:
        for path, manifest in manifests.items():
            _write_model(path, manifest, directory, serving)
        written = sorted(each.name for each in directory.iterdir())
    return RepositoryReport(directory=out, models=tuple(sorted(written, key=lambda name: ("." in name, name))))


def _newest(path: Path) -> Path | None:
    """Find the model directory of an entry of a folder of models."""
    if (path / FILE_NAME).is_file():
        return path
    versions = [each.parent for each in path.glob(f"[!.]*/{FILE_NAME}")]
    if len(versions) > 1 and not all(_number(each) for each in versions):
        raise BundleError(f"{path} has versions that are no whole numbers: name one of them as MODELS")
    return max(versions, key=_number, default=None)


def _number(path: Path) -> int:
    """Return the version in a directory's name; Triton's are numbers from 1, so 0 is none."""
    return int(path.name) if path.name.isascii() and path.name.isdigit() else 0


def _is_ours(out: Path) -> bool:
    """Whether everything in a folder is a Triton model: only such a folder may be replaced by --force."""
    return out.is_dir() and all((each / CONFIG_FILE).is_file() for each in out.iterdir())


def _check_serving(serving: Serving) -> None:
    on_onnxruntime = serving.variant == "onnxruntime" and serving.device == "gpu"
    refusals = {
        "--tensorrt needs --variant onnxruntime and --device gpu": serving.tensorrt and not on_onnxruntime,
        "--engine-cache is TensorRT's: add --tensorrt": bool(serving.engine_cache) and not serving.tensorrt,
        "--engine-cache must be a whole path, as Triton sees it": bool(serving.engine_cache)
        and not serving.engine_cache.startswith("/"),
        "--precision fast needs --device gpu: CPUs compute these graphs in float32": serving.precision == "fast"
        and serving.device == "cpu",
    }
    if wrong := [text for text, applies in refusals.items() if applies]:
        raise BundleError("; ".join(wrong))


def _write_model(path: Path, manifest: Manifest, directory: Path, serving: Serving) -> None:
    suffix = ".pt" if serving.variant == "libtorch" else ".onnx"
    graphs = manifest.graphs(suffix)
    if not {"mapping", "synthesis"} <= set(graphs) and "generator" not in graphs:
        formats = "torchscript" if suffix == ".pt" else "onnx"
        raise BundleError(f"{path} has no generator as *{suffix}: export it with --formats {formats}")
    files = {graph: _graph_file(manifest, graph, suffix, serving) for graph in graphs}
    manifest.verify_files(path, read=set(files.values()))
    # Above a version's folder is one of the model's name.
    number = 0 if path.name == manifest.name else _number(path)
    target = _Target(directory, str(number or 1), serving)
    steps = {}
    for graph, file in files.items():
        steps[graph] = signature = manifest_signature(manifest, graph)
        name = f"{manifest.name}.{graph}"
        config = graph_config(name, signature, _with_own_cache(serving, name, manifest, file), manifest.noise_size)
        version = target.add(config)
        shutil.copyfile(path / file, version / f"model{suffix}")
        _finish(version, config, signature, serving)
    if "generator" not in graphs:
        steps[BROADCAST] = _write_broadcast(manifest, target)
    _write_ensemble(path, manifest, steps, target)


def _graph_file(manifest: Manifest, graph: str, suffix: str, serving: Serving) -> str:
    half = f"{graph}.fp16{suffix}"
    return half if serving.precision == "fast" and half in manifest.files else f"{graph}{suffix}"


def _with_own_cache(serving: Serving, name: str, manifest: Manifest, file: str) -> Serving:
    """Append a folder for the engines of one graph: onnxruntime distinguishes engines by structure, not by weights."""
    if not serving.engine_cache:
        return serving
    folder = f"{name}-{manifest.files[file].sha256[:16]}"
    return replace(serving, engine_cache=f"{serving.engine_cache.rstrip('/')}/{folder}")


def _write_broadcast(manifest: Manifest, target: _Target) -> Signature:
    signature, serving = broadcast_signature(manifest), replace(target.serving, tensorrt=False, engine_cache="")
    config = graph_config(f"{manifest.name}.{BROADCAST}", signature, serving)
    version = target.add(config)
    if serving.variant == "libtorch":
        write_broadcast_torchscript(signature, version / "model.pt")
    else:
        write_broadcast_onnx(signature, version / "model.onnx")
    _finish(version, config, signature, serving)
    return signature


def _write_ensemble(path: Path, manifest: Manifest, steps: dict[str, Signature], target: _Target) -> None:
    order = ("generator",) if "generator" in steps else ("mapping", BROADCAST, "synthesis")
    facts = {"stylewire.digest": manifest.digest(), "license": manifest.license, "attribution": manifest.attribution}
    named = [(f"{manifest.name}.{step}", steps[step]) for step in order]
    config = ensemble_config(
        manifest.name, named, target.serving, {key: value for key, value in facts.items() if value}
    )
    version = target.add(config)
    # Where the graphs come from goes with them; and a folder that is empty many stores of files do not keep.
    shutil.copyfile(path / FILE_NAME, version / FILE_NAME)
    _check_text(version.parent / CONFIG_FILE, config, None)


def _finish(version: Path, config: ModelConfig, signature: Signature, serving: Serving) -> None:
    """Copy what runs a graph beside it, and compare the graph, its configuration as written, and the manifest."""
    if serving.variant == "python":
        shutil.copyfile(_PYTHON_MODEL, version / "model.py")
    if serving.variant == "libtorch":
        found = torchscript_signature(version / "model.pt", signature)
    else:
        found = onnx_signature(version / "model.onnx")
    if wrong := differences(signature, found):
        raise BundleError(f"the graph of {config.name} is not what model.json says: {'; '.join(wrong)}; export it anew")
    _check_text(version.parent / CONFIG_FILE, config, found)


def _check_text(file: Path, config: ModelConfig, graph: Signature | None) -> None:
    """Read a configuration as Triton does, and compare it with the graph.

    Raises:
        BundleError: it cannot be read, or differs.
    """
    try:
        name, written = config_signature(file.read_text(encoding="utf-8"))
    except ParseError as err:
        raise BundleError(f"{CONFIG_FILE} of {config.name} cannot be read back: {err}") from err
    wrong = differences(written, graph) if graph else []
    if name != config.name or wrong:
        raise BundleError(f"{CONFIG_FILE} of {config.name} does not describe its graph: {'; '.join(wrong) or name}")
