"""Triton model repositories as documents: what Triton would read of them, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig, ModelInstanceGroup

from stylewire.demo import MODELS
from stylewire.manifest import Manifest, ManifestError, file_info
from stylewire_export.errors import BundleError
from stylewire_export.triton.config import Serving
from stylewire_export.triton.repository import find_models, write_repository

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(uint8)": "TYPE_UINT8"}


def write(models, out, *, force=False, **serving):
    return write_repository(find_models(models), out, Serving(**serving), force=force)


def read_config(folder):
    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), ModelConfig())


@pytest.fixture(scope="module")
def repositories(small_models, tmp_path_factory):
    """A repository of each variant, of the same four models."""
    out = tmp_path_factory.mktemp("repositories")
    for variant in ("onnxruntime", "libtorch", "python"):
        write(small_models, out / variant, variant=variant, max_batch_size=4)
    return out


@pytest.fixture
def model(small_models, tmp_path):
    """A model directory that a test may spoil."""
    return Path(shutil.copytree(small_models / "plain", tmp_path / "models" / "plain"))


def amend(directory, **changes):
    """Change a manifest, and take the files as they are now."""
    fields = json.loads((directory / "model.json").read_text(encoding="utf-8")) | changes
    names = [path.name for path in directory.iterdir() if path.name != "model.json"]
    fields["files"] = {name: file_info(directory / name).model_dump() for name in names}
    (directory / "model.json").write_text(json.dumps(fields), encoding="utf-8")


def dims(tensor, *, of_graph):
    """Sides behind the batch axis, as the graph sees them or as callers do."""
    return list(tensor.reshape.shape if of_graph and tensor.HasField("reshape") else tensor.dims)


@pytest.mark.parametrize("variant", ["onnxruntime", "libtorch", "python"])
def test_configurations_have_the_tensors_of_the_graphs(repositories, small_models, variant):
    """Every graph of every model has a model at Triton with the names, types and shapes that its ONNX file has."""
    suffix = "pt" if variant == "libtorch" else "onnx"
    graphs = {f"{name}.{graph}" for name in ("plain", "twin", "classes", "rgba") for graph in ("mapping", "synthesis")}

    for name in graphs:
        folder, (model_name, graph) = repositories / variant / name, name.split(".")
        config = read_config(folder)
        session = onnxruntime.InferenceSession(small_models / model_name / f"{graph}.onnx")
        assert [name, 4] == [config.name, config.max_batch_size]
        assert (small_models / model_name / f"{graph}.{suffix}").read_bytes() == (
            folder / "1" / f"model.{suffix}"
        ).read_bytes()
        for nodes, tensors in ((session.get_inputs(), config.input), (session.get_outputs(), config.output)):
            assert [node.name for node in nodes] == [tensor.name for tensor in tensors]
            assert [TYPES[node.type] for node in nodes] == [DataType.Name(tensor.data_type) for tensor in tensors]
            expected = [[side if isinstance(side, int) else -1 for side in node.shape[1:]] for node in nodes]
            assert expected == [dims(tensor, of_graph=True) for tensor in tensors]
            # Triton refuses a tensor without a side behind the batch axis.
            assert all(dims(tensor, of_graph=False) for tensor in tensors)


@pytest.mark.parametrize(
    ("variant", "runs"),
    [
        ("onnxruntime", {"backend": "onnxruntime", "platform": "onnxruntime_onnx"}),
        ("libtorch", {"backend": "pytorch", "platform": "pytorch_libtorch"}),
        ("python", {"backend": "python", "platform": ""}),
    ],
)
def test_configurations_say_how_to_serve(repositories, variant, runs):
    """Each graph has its backend, a bounded queue whose waits callers may limit, instances, and warm-ups of 1 and 4."""
    config = read_config(repositories / variant / "plain.synthesis")
    queue = config.dynamic_batching.default_queue_policy

    assert runs == {"backend": config.backend, "platform": config.platform}
    assert (64, True, queue.REJECT) == (queue.max_queue_size, queue.allow_timeout_override, queue.timeout_action)
    assert [(ModelInstanceGroup.KIND_CPU, 1)] == [(group.kind, group.count) for group in config.instance_group]
    assert 1 == config.version_policy.latest.num_versions
    assert [1, 4] == [warm_up.batch_size for warm_up in config.model_warmup]
    for warm_up in config.model_warmup:
        assert {tensor.name for tensor in config.input} == set(warm_up.inputs)
        assert all(min(given.dims) > 0 for given in warm_up.inputs.values())


def run_step(repository, variant, name, values):
    """Run a model of a repository as Triton would: inputs and outputs by the configuration."""
    folder, config = repository / name, read_config(repository / name)
    inputs = [values[tensor.name] for tensor in config.input]
    names = [tensor.name for tensor in config.output]
    if variant == "libtorch":  # inputs and outputs have no names there: they are in the configuration's order
        with pytest.warns(DeprecationWarning, match="torch.jit.load"):
            module = torch.jit.load(folder / "1" / "model.pt")
        with torch.inference_mode():
            got = module(*map(torch.from_numpy, inputs))
        return dict(zip(names, [each.numpy() for each in (got if isinstance(got, tuple) else (got,))], strict=True))
    session = onnxruntime.InferenceSession(folder / "1" / "model.onnx")
    feed = dict(zip([tensor.name for tensor in config.input], inputs, strict=True))
    return dict(zip(names, session.run(names, feed), strict=True))


def run_ensemble(repository, variant, name, values):
    """Walk the steps of an ensemble, with nothing but what its maps say."""
    for step in read_config(repository / name).ensemble_scheduling.step:
        got = run_step(repository, variant, step.model_name, {to: values[of] for to, of in step.input_map.items()})
        values = values | {to: got[of] for of, to in step.output_map.items()}
    return values


@pytest.mark.parametrize("variant", ["onnxruntime", "libtorch"])
def test_ensemble_goes_from_z_to_pixels(repositories, small_models, variant):
    """The steps of an ensemble, label and noise included, make the pixels that the model's own graphs make."""
    random = np.random.RandomState(0)
    z, label = random.randn(3, 16).astype(np.float32), np.eye(5, dtype=np.float32)[:3]
    config = read_config(repositories / variant / "classes")
    got = run_ensemble(repositories / variant, variant, "classes", {"z": z, "label": label})
    mapping, synthesis = (
        onnxruntime.InferenceSession(small_models / "classes" / f"{graph}.onnx") for graph in ("mapping", "synthesis")
    )
    code = np.repeat(mapping.run(None, {"z": z, "label": label})[0][:, None], 8, 1)  # [N, L, D]
    noise = {"noise_strength": np.ones(3, np.float32), "noise": np.zeros((3, 1), np.float32)}
    expected = synthesis.run(["pixels"], {"w_plus": code, **noise})[0]

    assert (["z", "label"], ["pixels"]) == ([each.name for each in config.input], [each.name for each in config.output])
    assert "ensemble" == config.platform
    difference = np.abs(expected.astype(int) - got["pixels"])
    print(f"{variant}: {difference.max()} levels")
    assert difference.max() <= 1


def test_ensemble_carries_what_the_model_is(tmp_path):
    """License, attribution, digest and manifest of a model go with its ensemble, and its folder is not empty."""
    write(MODELS / "avatars", tmp_path / "repository")
    manifest, folder = Manifest.read(MODELS / "avatars"), tmp_path / "repository" / "avatars"
    facts = {key: value.string_value for key, value in read_config(folder).parameters.items()}

    assert manifest == Manifest.read(folder / "1")
    assert {
        "license": "CC-BY-4.0",
        "attribution": manifest.attribution,
        "stylewire.digest": manifest.digest(),
    } == facts


def test_encoders_and_generators_without_styles_are_models_too(dcgan_model, tmp_path):
    """An encoder is a model of its own; a generator without styles is one graph, and an ensemble of one step."""
    written = write(MODELS / "avatars", tmp_path / "avatars")
    write(dcgan_model, tmp_path / "dcgan")
    ensemble = read_config(tmp_path / "dcgan" / "dcgan")

    assert (
        "avatars",
        "avatars.broadcast",
        "avatars.encoder",
        "avatars.mapping",
        "avatars.synthesis",
    ) == written.models
    assert [3, 64, 64] == list(read_config(tmp_path / "avatars" / "avatars.encoder").input[0].dims)
    assert ["dcgan", "dcgan.generator"] == sorted(path.name for path in (tmp_path / "dcgan").iterdir())
    assert ["dcgan.generator"] == [step.model_name for step in ensemble.ensemble_scheduling.step]
    assert ["z", "label"] == [tensor.name for tensor in ensemble.input]


def test_gpus_get_accelerators(model, tmp_path):
    """On GPUs onnxruntime is told to be exact; TensorRT gets one profile for all sizes, a cache, and half precision."""
    shutil.copyfile(model / "synthesis.onnx", model / "synthesis.fp16.onnx")
    amend(model, architecture="as fp16")
    write(model, tmp_path / "exact", device="gpu", instances=2)
    fast = {"device": "gpu", "precision": "fast", "tensorrt": True, "engine_cache": "/cache", "max_batch_size": 16}
    write(model, tmp_path / "fast", **fast)
    exact = read_config(tmp_path / "exact" / "plain.synthesis")
    (cuda,) = exact.optimization.execution_accelerators.gpu_execution_accelerator
    tensorrt, cuda_of_fast = read_config(
        tmp_path / "fast" / "plain.synthesis"
    ).optimization.execution_accelerators.gpu_execution_accelerator
    size = Manifest.read(model).noise_size
    # Of its own: onnxruntime would take the engine of another model's weights.
    cache = f"/cache/plain.synthesis-{file_info(model / 'synthesis.fp16.onnx').sha256[:16]}"

    assert [(ModelInstanceGroup.KIND_GPU, 2)] == [(group.kind, group.count) for group in exact.instance_group]
    assert ("cuda", "0", "1") == (cuda.name, cuda.parameters["use_tf32"], cuda_of_fast.parameters["use_tf32"])
    assert {
        "precision_mode": "FP16",
        "trt_profile_min_shapes": "w_plus:1x8x16,noise_strength:1,noise:1x1",
        "trt_profile_opt_shapes": "w_plus:8x8x16,noise_strength:8,noise:8x1",
        "trt_profile_max_shapes": f"w_plus:16x8x16,noise_strength:16,noise:16x{size}",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache,
    } == dict(tensorrt.parameters)
    assert (model / "synthesis.fp16.onnx").read_bytes() == (
        tmp_path / "fast" / "plain.synthesis" / "1" / "model.onnx"
    ).read_bytes()
    # Nothing is gained by TensorRT where nothing is computed.
    broadcast = read_config(tmp_path / "fast" / "plain.broadcast").optimization.execution_accelerators
    assert ["cuda"] == [each.name for each in broadcast.gpu_execution_accelerator]


@pytest.mark.parametrize(
    ("serving", "text"),
    [
        ({"tensorrt": True}, "--tensorrt needs --variant onnxruntime and --device gpu"),
        ({"tensorrt": True, "variant": "libtorch", "device": "gpu"}, "--tensorrt needs --variant onnxruntime"),
        ({"engine_cache": "/cache"}, "add --tensorrt"),
        ({"engine_cache": "cache", "tensorrt": True, "device": "gpu"}, "must be a whole path"),
        ({"precision": "fast"}, "--precision fast needs --device gpu"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_options_that_do_not_fit_are_refused(small_models, tmp_path, serving, text):
    """An option that would do nothing, or fail in Triton, is refused, and nothing is written."""
    with pytest.raises(BundleError, match=text):
        write(small_models, tmp_path / "repository", **serving)

    assert not list(tmp_path.iterdir())


def test_repository_is_replaced_by_force_only(small_models, tmp_path):
    """A repository is replaced as a whole and on demand only; a folder of something else never is."""
    out, foreign = tmp_path / "repository", tmp_path / "foreign"
    write(small_models / "plain", out)
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work")

    with pytest.raises(BundleError, match="use --force"):
        write(small_models / "twin", out)
    with pytest.raises(BundleError, match="no repository of ours"):
        write(small_models / "twin", foreign, force=True)
    write(small_models / "twin", out, force=True)
    assert ["twin", "twin.broadcast", "twin.mapping", "twin.synthesis"] == sorted(path.name for path in out.iterdir())
    assert ["foreign", "repository"] == sorted(path.name for path in tmp_path.iterdir())


def test_versions_are_numbers_at_triton(model, tmp_path):
    """Of a model with versions the highest is taken, under its number; names that are no numbers have to be chosen."""
    folder = model.parent
    for version in ("2", "10", "v1"):
        shutil.copytree(model, folder / "faces" / version)
    with pytest.raises(BundleError, match="name one of them as MODELS"):
        find_models(folder)
    shutil.rmtree(folder / "faces" / "v1")
    shutil.rmtree(model)
    (taken,) = find_models(folder)
    write(taken, tmp_path / "repository")

    assert "10" == taken.name
    assert (tmp_path / "repository" / "plain.mapping" / "10" / "model.onnx").is_file()
    assert (tmp_path / "repository" / "plain" / "10" / "model.json").is_file()


def test_two_models_of_one_name_are_refused(model, tmp_path):
    """Triton has one name for a model, so two cannot have it."""
    shutil.copytree(model, model.parent / "copy")

    with pytest.raises(BundleError, match="several models are named plain"):
        write(model.parent, tmp_path / "repository")


def test_folders_without_models_are_refused(tmp_path):
    """A folder with no model in it is named."""
    with pytest.raises(BundleError, match="has none in it"):
        find_models(tmp_path)


def test_missing_format_is_named(model, tmp_path):
    """A model that has no TorchScript cannot be served by libtorch, and is told how to get it."""
    for path in model.glob("*.pt"):
        path.unlink()
    amend(model)

    with pytest.raises(BundleError, match="--formats torchscript"):
        write(model, tmp_path / "repository", variant="libtorch")


def test_damaged_files_are_refused(model, tmp_path):
    """What is not the file of the manifest is not served."""
    (model / "mapping.onnx").write_bytes(b"x" * (model / "mapping.onnx").stat().st_size)

    with pytest.raises(ManifestError, match=r"mapping.onnx differs"):
        write(model, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def spoil_garbage(model):
    (model / "mapping.onnx").write_bytes(b"\x08\x07garbage")


def spoil_swap(model):
    shutil.copyfile(model / "synthesis.onnx", model / "mapping.onnx")


def spoil_batch_axis(model):
    found = onnx.load(model / "mapping.onnx")
    found.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(found, model / "mapping.onnx")


def spoil_type(model):
    found = onnx.load(model / "mapping.onnx")
    found.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    onnx.save(found, model / "mapping.onnx")


def spoil_size(model):
    amend(model, z_dim=17)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (spoil_garbage, "is no ONNX file"),
        (spoil_swap, "its inputs are 'w_plus', 'noise_strength', 'noise' where 'z' are expected"),
        (spoil_batch_axis, "'z' has no batch axis of any size"),
        (spoil_type, r"its output is w double\[N, 16\] where w float32\[N, 16\] is expected"),
        (spoil_size, r"its input is z float32\[N, 16\] where z float32\[N, 17\] is expected"),
    ],
    ids=["garbage", "swap", "batch axis", "type", "size"],
)
def test_graphs_that_are_not_what_the_manifest_says_are_refused(model, tmp_path, spoil, text):
    """A file that differs from its manifest is named with the difference, and nothing is written."""
    spoil(model)
    amend(model, **({"z_dim": 17} if spoil is spoil_size else {}))

    with pytest.raises(BundleError, match=text):
        write(model, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("source", "changes", "text"),
    [
        ("synthesis.pt", {}, "does not take z float32"),
        ("mapping.pt", {"z_dim": 17}, "does not take z float32"),
        ("twin", {"image_channels": 4}, r"its output is pixels uint8\[N, 32, 32, 3\]"),
    ],
    ids=["swap", "size", "channels"],
)
def test_torchscript_is_tried(model, tmp_path, source, changes, text):
    """TorchScript has no names and shapes to compare, so it is run."""
    if source != "twin":
        shutil.copyfile(model / source, tmp_path / "copy.pt")
        shutil.move(tmp_path / "copy.pt", model / "mapping.pt")
    amend(model, **changes)

    with pytest.raises(BundleError, match=text):
        write(model, tmp_path / "repository", variant="libtorch")


def test_encoder_without_an_entry_is_refused(model, tmp_path):
    """An encoder file that the manifest says nothing of cannot be described."""
    shutil.copyfile(model / "mapping.onnx", model / "encoder.onnx")
    amend(model)

    with pytest.raises(BundleError, match="no entry in encoders"):
        write(model, tmp_path / "repository")


def test_command_says_how_to_serve(small_models, tmp_path):
    """The command prints the models and how to serve them."""
    command = [sys.executable, "-W", "error", "-c", "from stylewire_export.cli import main; main()"]
    arguments = ["triton-repository", str(small_models / "plain"), "--out", str(tmp_path / "repository")]
    done = subprocess.run([*command, *arguments], check=False, capture_output=True, text=True)

    assert (0, "") == (done.returncode, done.stderr)
    assert "plain, plain.broadcast, plain.mapping, plain.synthesis" in done.stdout
    assert f"tritonserver --model-repository={tmp_path / 'repository'}" in done.stdout
