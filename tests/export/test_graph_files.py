"""ONNX and TorchScript files: names, dynamic axes, size, and that others can read them."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from stylewire_export.errors import VerificationError
from stylewire_export.formats.onnx import write_onnx
from stylewire_export.formats.torchscript import write_torchscript
from stylewire_export.graphs import encoder_graph, mapping_graph, synthesis_graph
from stylewire_export.networks.encoder import make_encoder
from stylewire_export.networks.generator import Generator
from stylewire_export.runners import open_graph_file
from stylewire_export.verify import reference_cases, verify_graph

WRITERS = {".onnx": write_onnx, ".pt": write_torchscript}


@pytest.fixture(params=sorted(WRITERS))
def suffix(request):
    return request.param


def verify(graph, path):
    return verify_graph(graph, path, reference_cases(graph), "round")


def axes(value):
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_onnx_synthesis_has_the_names_and_axes_of_the_contract(tiny_generator, tmp_path):
    """Names, order, element types and dynamic axes are what every backend and Triton rely on."""
    write_onnx(synthesis_graph(tiny_generator), tmp_path / "synthesis.onnx")
    graph = onnx.load(tmp_path / "synthesis.onnx").graph

    inputs = {value.name: axes(value) for value in graph.input}
    outputs = {value.name: axes(value) for value in graph.output}

    assert {"w_plus": ["N", 8, 8], "noise_strength": ["N"], "noise": ["N", "noise_size"]} == inputs
    assert {"pixels": ["N", 32, 32, 3], "image": ["N", 3, 32, 32]} == outputs
    assert ["w_plus", "noise_strength", "noise"] == list(inputs)
    types = [value.type.tensor_type.elem_type for value in graph.output]
    assert [onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT] == types


def test_onnx_uses_standard_operators_of_opset_17(tiny_generator, tiny_encoder, tmp_path):
    """No vendor's operator is in a graph, so that every runtime can load it."""
    graphs = [
        mapping_graph(tiny_generator),
        synthesis_graph(tiny_generator),
        encoder_graph("encoder", tiny_encoder, torch.zeros(8, 8)),
    ]
    for graph in graphs:
        write_onnx(graph, tmp_path / f"{graph.name}.onnx")
        model = onnx.load(tmp_path / f"{graph.name}.onnx")

        assert [("", 17)] == [(opset.domain, opset.version) for opset in model.opset_import]
        assert {""} == {node.domain for node in model.graph.node}


def test_onnx_stores_every_weight_once(tiny_generator, tmp_path):
    """The file is about as large as the tensors that the network computes with."""
    wide = Generator(replace(tiny_generator.config, channels=((4, 64), (8, 64), (16, 64), (32, 64))))
    write_onnx(synthesis_graph(wide), tmp_path / "synthesis.onnx")
    used = sum(tensor.numel() * 4 for tensor in wide.synthesis.state_dict().values())

    assert (tmp_path / "synthesis.onnx").stat().st_size < 1.15 * used


def test_onnx_halves_weights_that_half_precision_holds(tiny_encoder, tmp_path):
    """Weights rounded to half precision take half the bytes and give the very same codes."""
    rounded = make_encoder(replace(tiny_encoder.config, w_dim=32, widths=(8, 8, 16, 24, 32)))
    graph = encoder_graph("encoder", rounded, torch.zeros(8, 32))
    write_onnx(graph, tmp_path / "encoder.onnx")
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.half().float())
    write_onnx(graph, tmp_path / "halved.onnx")

    halved = onnx.load(tmp_path / "halved.onnx").graph
    names = {tensor.name for tensor in halved.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}

    assert names == {node.input[0] for node in halved.node if node.op_type == "Cast"}
    assert (tmp_path / "halved.onnx").stat().st_size < 0.7 * (tmp_path / "encoder.onnx").stat().st_size
    verify(graph, tmp_path / "halved.onnx")


def test_files_are_the_same_every_time(tiny_generator, tmp_path):
    """Two ONNX exports of one network are equal byte for byte, so that digests can be compared."""
    for name in ("first", "second"):
        write_onnx(synthesis_graph(tiny_generator), tmp_path / f"{name}.onnx")

    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_graph_files_compute_what_the_network_computes(tiny_generator, tmp_path, suffix, architecture):
    """Every architecture, at batch 1, 2 and 5 and in every noise mode, within the limits of the export."""
    torch.manual_seed(0)
    generator = Generator(replace(tiny_generator.config, architecture=architecture, conv_clamp=2.0, image_channels=4))
    graph = synthesis_graph(generator)
    WRITERS[suffix](graph, tmp_path / f"synthesis{suffix}")

    check = verify(graph, tmp_path / f"synthesis{suffix}")

    print(f"{architecture}{suffix}: {check.errors}")
    assert (1, 2, 5) == check.batch_sizes
    assert {"pixels", "image"} == set(check.errors)


def test_graph_without_noise_layers_has_no_noise_inputs(tiny_generator, tmp_path, suffix):
    """A generator built without noise takes codes only."""
    graph = synthesis_graph(Generator(replace(tiny_generator.config, use_noise=False)))
    WRITERS[suffix](graph, tmp_path / f"synthesis{suffix}")

    assert ("w_plus",) == graph.inputs
    verify(graph, tmp_path / f"synthesis{suffix}")


def test_verification_finds_another_network(tiny_generator, tmp_path, suffix):
    """A file of another network, or one that ignores an input, does not pass."""
    torch.manual_seed(5)
    other = synthesis_graph(Generator(tiny_generator.config))
    WRITERS[suffix](other, tmp_path / f"synthesis{suffix}")

    with pytest.raises(VerificationError, match="image at batch 1 is off by"):
        verify(synthesis_graph(tiny_generator), tmp_path / f"synthesis{suffix}")


def test_verification_finds_another_signature(tiny_generator, tmp_path):
    """An ONNX file with other inputs is refused before it runs."""
    write_onnx(mapping_graph(tiny_generator), tmp_path / "synthesis.onnx")

    with pytest.raises(VerificationError, match="expected"):
        open_graph_file(tmp_path / "synthesis.onnx", ("w_plus",), ("image",))


def test_torchscript_loads_without_our_code(tiny_generator, tmp_path):
    """An isolated interpreter, in which our packages cannot be imported, runs the file."""
    graph = synthesis_graph(tiny_generator)
    write_torchscript(graph, tmp_path / "synthesis.pt")
    np.savez(tmp_path / "values.npz", **graph.examples(5))
    code = """if True:
        import sys, numpy, torch
        sys.modules.update(stylewire=None, stylewire_export=None)
        values = numpy.load(sys.argv[2])
        module = torch.jit.load(sys.argv[1])
        pixels, image = module(*(torch.from_numpy(values[name]) for name in values.files))
        numpy.save(sys.argv[3], image.numpy())
    """
    arguments = [tmp_path / "synthesis.pt", tmp_path / "values.npz", tmp_path / "image.npy"]
    subprocess.run([sys.executable, "-I", "-c", code, *arguments], check=True)

    expected = graph.run(graph.examples(5))["image"]
    np.testing.assert_allclose(np.load(tmp_path / "image.npy"), expected, atol=1e-5)
