"""Files for faster runtimes: half precision and ncnn, measured against float32, and left out where they cannot be."""

import copy
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from stylewire.manifest import Manifest, file_info
from stylewire_export.bundle import ExportJob, export_model
from stylewire_export.checkpoints import read_generator
from stylewire_export.errors import BundleError, VerificationError
from stylewire_export.formats import DEFAULT_FORMATS, FORMATS
from stylewire_export.formats.half import half_form
from stylewire_export.graphs import encoder_graph, mapping_graph, synthesis_graph
from stylewire_export.networks.loading import load_generator
from stylewire_export.runners import open_graph_file
from stylewire_export.verify import psnr, verify_directory

FASTER = ("ncnn", "onnx-fp16", "torchscript-fp16")


@pytest.fixture(scope="module")
def exported(tiny_checkpoints, tmp_path_factory):
    """A model directory with every format."""
    generator, encoder = tiny_checkpoints
    out = tmp_path_factory.mktemp("models")
    return export_model(
        ExportJob(generator=generator, encoders=(encoder,), name="tiny", out=out, formats=tuple(FORMATS))
    )


def test_manifest_names_every_file_with_its_error(exported):
    """Each file has its precision and its measured errors; mapping networks have neither half precision nor ncnn."""
    checks = {check.file: check for check in exported.manifest.checks}
    plain = {f"{graph}{suffix}" for graph in ("mapping", "synthesis", "encoder") for suffix in (".onnx", ".pt")}
    faster = {f"{graph}{FORMATS[name].suffix}" for graph in ("synthesis", "encoder") for name in FASTER}
    for check in checks.values():
        print(f"{check.file}: {check.psnr_db} dB, {dict(check.errors)}")

    assert plain | faster == set(checks) < set(exported.manifest.files)
    assert {"synthesis.ncnn.bin", "encoder.ncnn.bin"} < set(exported.manifest.files)
    for name, check in checks.items():
        assert ("fp16" if ".fp16." in name else "fp32") == check.precision
        assert (1, 2, 5) == check.batch_sizes
        assert check.psnr_db >= (50 if check.precision == "fp16" else 100)
    assert ("encoder", "mapping", "synthesis") == exported.manifest.graphs(".onnx")
    assert ("encoder", "synthesis") == exported.manifest.graphs(".fp16.onnx") == exported.manifest.graphs(".ncnn.param")
    assert () == exported.notes


def test_all_files_pass_a_later_verification(exported):
    """The check vectors verify the files of every format."""
    reports = verify_directory(exported.directory)

    assert len(exported.manifest.checks) == len(reports)
    assert [] == [report.problems for report in reports if report.problems]


def test_exports_make_files_for_every_machine(tiny_checkpoints, tmp_path):
    """What is written unless formats are named has ncnn and half precision beside ONNX and TorchScript."""
    report = export_model(ExportJob(generator=tiny_checkpoints[0], name="tiny", out=tmp_path))

    assert {"onnx", "torchscript", "ncnn", "onnx-fp16"} == set(DEFAULT_FORMATS)
    assert {"synthesis.onnx", "synthesis.pt", "synthesis.ncnn.param", "synthesis.fp16.onnx"} < set(
        report.manifest.files
    )


@pytest.mark.parametrize(
    "name", ["ada64", "ada16odd", "ada32resnet", "ada32clamp", "ada32rgba", "ada32fp16", "ros32", "tf2_32"]
)
def test_half_precision_is_close_to_the_original(golden, case, tmp_path, name):
    """Pictures of original checkpoints keep 55 dB and lose two levels at most, whatever the architecture."""
    reference = case(name)
    (checkpoint,) = (path for path in (golden / name).iterdir() if path.suffix in {".pkl", ".pt"})
    graph = synthesis_graph(load_generator(read_generator(checkpoint)))
    half = replace(graph, module=half_form(graph.module))
    FORMATS["onnx-fp16"].write(half, tmp_path / "synthesis.fp16.onnx")
    run = open_graph_file(tmp_path / "synthesis.fp16.onnx", graph.inputs, graph.outputs)
    codes = reference.codes_of(reference.arrays["w"])
    noise = np.zeros((len(codes), 1), np.float32)
    values = {"w_plus": codes, "noise_strength": np.ones(len(codes), np.float32), "noise": noise}
    drawn = run({name: values[name] for name in graph.inputs})
    levels = np.abs(drawn["pixels"].astype(int) - reference.arrays["img_const_u8"]).max()
    likeness = psnr(reference.arrays["img_const"], drawn["image"])
    print(f"{name}: {likeness:.1f} dB, {levels} levels")

    assert likeness >= 55
    assert levels <= 2


def test_half_precision_survives_large_weights(tiny_generator):
    """Weights and styles whose products leave the range of float16 give the same picture: both are normalized first."""
    generator = copy.deepcopy(tiny_generator)
    graph = synthesis_graph(generator)
    values = graph.examples(2)
    for name, parameter in generator.named_parameters():
        if name.startswith("synthesis") and ("affine" in name or name.endswith(".weight")) and "torgb" not in name:
            parameter.data *= 1000
    expected = graph.run(values)["image"]
    found = replace(graph, module=half_form(graph.module)).run(values)["image"]

    assert np.isfinite(found).all()
    assert psnr(expected, found) >= 50


def test_half_form_leaves_the_network_as_it_is(tiny_generator):
    """The float32 files of the same export are written from the same network."""
    graph = synthesis_graph(tiny_generator)
    values, before = graph.examples(1), graph.run(graph.examples(1))["image"]
    half = half_form(graph.module)
    weights = [tensor.dtype for name, tensor in half.state_dict().items() if name.endswith("conv1.weight")]

    np.testing.assert_array_equal(before, graph.run(values)["image"])
    assert {torch.float16} == set(weights)
    assert half_form(mapping_graph(tiny_generator).module) is None


@pytest.mark.parametrize("graph", ["synthesis", "encoder"])
def test_half_precision_convolutions_are_float16(exported, graph):
    """The weights of every convolution but those that enlarge the image are stored in two bytes each."""
    model = onnx.load(exported.directory / f"{graph}.fp16.onnx").graph
    tensors = {tensor.name: tensor for tensor in model.initializer}
    tensors |= {node.output[0]: node.attribute[0].t for node in model.node if node.op_type == "Constant"}
    weights = [tensors[node.input[1]] for node in model.node if node.op_type in {"Conv", "ConvTranspose"}]
    kept = [tensor.dims for tensor in weights if tensor.data_type != onnx.TensorProto.FLOAT16]

    assert len(weights) > 10
    assert all([3, 1, 4, 4] == list(dims) for dims in kept)


@pytest.mark.parametrize("name", FASTER)
def test_what_cannot_be_is_left_out_with_a_note(tiny_checkpoints, tmp_path, monkeypatch, name):
    """A faster file that differs from the network does not stop the export, and no rest of it stays."""
    real = FORMATS[name]

    def wrong(graph, path):
        real.write(replace(graph, module=graph.module), path)
        raise VerificationError(f"{path.name}: image at batch 1 is off by 7")

    monkeypatch.setitem(FORMATS, name, replace(real, write=wrong))
    formats = ("onnx", name)
    report = export_model(ExportJob(generator=tiny_checkpoints[0], name="tiny", out=tmp_path, formats=formats))

    assert {"mapping.onnx", "synthesis.onnx", "check.npz", "w_mean.npy"} == set(report.manifest.files)
    assert (f"{name} of synthesis is left out: synthesis{real.suffix}: image at batch 1 is off by 7",) == report.notes


def test_pnnx_that_fails_is_a_note(tiny_checkpoints, tmp_path, monkeypatch):
    """What the converter said is in the note."""
    (tmp_path / "pnnx").write_text("#!/bin/sh\necho no such operator >&2\nexit 3\n")
    (tmp_path / "pnnx").chmod(0o755)
    monkeypatch.setattr("stylewire_export.formats.ncnn._converter", lambda: str(tmp_path / "pnnx"))
    job = ExportJob(generator=tiny_checkpoints[0], name="tiny", out=tmp_path / "models", formats=("onnx", "ncnn"))

    assert ("ncnn of synthesis is left out: pnnx cannot convert synthesis: no such operator",) == export_model(
        job
    ).notes


def test_damaged_ncnn_file_is_refused(exported, tmp_path):
    """A cut weights file, an empty structure and one of another graph are errors, not crashes."""
    graph = ("w_plus", "noise_strength", "noise"), ("pixels", "image")
    for name in ("synthesis.ncnn.param", "synthesis.ncnn.bin"):
        (tmp_path / name).write_bytes((exported.directory / name).read_bytes())
    content = (tmp_path / "synthesis.ncnn.bin").read_bytes()
    (tmp_path / "synthesis.ncnn.bin").write_bytes(content[: len(content) // 2])
    with pytest.raises(VerificationError, match=r"ncnn refuses synthesis\.ncnn\.param"):
        open_graph_file(tmp_path / "synthesis.ncnn.param", *graph)
    (tmp_path / "synthesis.ncnn.param").write_text("")
    with pytest.raises(VerificationError, match="ncnn refuses"):
        open_graph_file(tmp_path / "synthesis.ncnn.param", *graph)
    with pytest.raises(VerificationError, match="other inputs or outputs"):
        open_graph_file(exported.directory / "encoder.ncnn.param", *graph)


def test_changed_half_precision_weight_is_found(exported, tmp_path):
    """Files in half precision have their own bound, and it can fail."""
    directory = tmp_path / "tiny"
    directory.mkdir()
    for path in exported.directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    model = onnx.load(directory / "synthesis.fp16.onnx")
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = onnx.numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[::7] += 0.1
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    onnx.save(model, directory / "synthesis.fp16.onnx")
    manifest = Manifest.read(directory)
    files = dict(manifest.files) | {"synthesis.fp16.onnx": file_info(directory / "synthesis.fp16.onnx")}
    manifest.model_copy(update={"files": files}).write(directory)

    problems = {report.check.file: report.problems for report in verify_directory(directory) if report.problems}

    assert ["synthesis.fp16.onnx"] == list(problems)
    assert any("levels, limit 3" in problem for problem in problems["synthesis.fp16.onnx"])


def test_ncnn_files_name_the_shapes_of_their_inputs(exported):
    """A server can refuse rows of another shape; only the noise may be of any length."""
    shapes = {
        graph: [line.split()[4:] for line in (exported.directory / f"{graph}.ncnn.param").read_text().splitlines()[2:5]]
        for graph in ("synthesis", "encoder")
    }

    assert [["in0", "0=8", "1=8"], ["in1", "0=1"], ["in2"]] == shapes["synthesis"]
    assert ["in0", "0=32", "1=32", "2=3"] == shapes["encoder"][0]


def test_missing_pnnx_is_named(tiny_generator, tmp_path, monkeypatch):
    """Without the converter the message says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "pnnx", None)

    with pytest.raises(BundleError, match=r"pip install 'stylewire\[export\]'"):
        FORMATS["ncnn"].write(synthesis_graph(tiny_generator), tmp_path / "synthesis.ncnn.param")


def test_ncnn_encodes(tiny_encoder, tmp_path):
    """An encoder in ncnn gives the codes of the network."""
    graph = encoder_graph("encoder", tiny_encoder, torch.full((8, 8), 0.5))
    FORMATS["ncnn"].write(graph, tmp_path / "encoder.ncnn.param")
    run = open_graph_file(tmp_path / "encoder.ncnn.param", graph.inputs, graph.outputs)

    assert psnr(graph.run(graph.examples(3))["w_plus"], run(graph.examples(3))["w_plus"]) >= 110
