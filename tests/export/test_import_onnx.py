"""Ready ONNX files: whatever their names and shapes, they become the graph ``generator``, or are refused."""

import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from stylewire.manifest import Manifest
from stylewire_export.checkpoints.config import DcganConfig
from stylewire_export.errors import BundleError, CheckpointError, VerificationError
from stylewire_export.networks.dcgan import Dcgan
from stylewire_export.onnx_import.importer import ImportJob, import_onnx
from stylewire_export.runners import open_graph_file
from stylewire_export.verify import verify_directory

Z = np.random.RandomState(0).randn(3, 5).astype(np.float32)


@pytest.fixture
def job(tmp_path):
    return ImportJob(file=tmp_path / "model.onnx", name="tiny", out=tmp_path / "models")


def constant(name, values, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def write_model(path, nodes, *, inputs=None, image=("N", 3, 8, 8), weights=(), opset=17, domains=()):
    """Write a graph whose ``weight`` has shape [5, 192] and whose output is called ``picture``."""
    inputs = {"noise": ["N", 5]} if inputs is None else inputs
    random = np.random.RandomState(1)
    graph = helper.make_graph(
        [helper.make_node(*node[:3], **(node[3] if len(node) > 3 else {})) for node in nodes],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, image)],
        [constant("weight", 0.1 * random.randn(5, 192)), constant("shape", [-1, 3, 8, 8], np.int64), *weights],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


LINEAR = ("MatMul", ["noise", "weight"], ["flat"])
FOLD = ("Reshape", ["flat", "shape"], ["square"])
TANH = ("Tanh", ["square"], ["picture"])
PLAIN = (LINEAR, FOLD, TANH)


def plain_image(z):
    weight = 0.1 * np.random.RandomState(1).randn(5, 192).astype(np.float32)
    return np.tanh((z @ weight.astype(np.float32)).reshape(-1, 3, 8, 8))


def draw(directory, **values):
    run = open_graph_file(directory / "generator.onnx", tuple(values), ("pixels", "image"))
    return run({name: array.astype(np.float32) for name, array in values.items()})


def levels(image):
    return np.clip(image * 127.5 + 128, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)


def test_model_becomes_a_directory(job):
    """Names, bytes, check vectors and manifest follow the contract, and everything verifies."""
    write_model(job.file, PLAIN)

    report = import_onnx(replace(job, license="CC0-1.0"))
    manifest = Manifest.read(report.directory)
    drawn = draw(report.directory, z=Z)

    assert {"generator.onnx", "check.npz"} == set(manifest.files)
    assert ("onnx", 5, 0, 0, 8, 3) == (
        manifest.architecture,
        manifest.z_dim,
        manifest.w_dim,
        manifest.label_dim,
        manifest.resolution_px,
        manifest.image_channels,
    )
    assert "CC0-1.0" == manifest.license
    assert "onnx" == manifest.sources[0].family
    assert any("no other reference" in note for note in manifest.notes)
    np.testing.assert_allclose(plain_image(Z), drawn["image"], atol=1e-6)
    assert np.array_equal(levels(drawn["image"]), drawn["pixels"])
    assert not any(found.problems for found in verify_directory(report.directory))


def test_exported_dcgan_is_taken(job):
    """An export with z of [N, Z, 1, 1] and the exporter's names gives PyTorch's images from z of [N, Z]."""
    torch.manual_seed(0)
    network = Dcgan(DcganConfig(input_dim=6, widths=(5, 4, 3), biased=(False, False, True))).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.main,
            (torch.zeros(1, 6, 1, 1),),
            job.file,
            dynamo=False,
            opset_version=11,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        )
    z = np.random.RandomState(0).randn(4, 6).astype(np.float32)

    image = draw(import_onnx(job).directory, z=z)["image"]

    np.testing.assert_allclose(network(torch.from_numpy(z)).detach().numpy(), image, atol=1e-6)


CONDITIONAL = (("Concat", ["first", "second"], ["noise"], {"axis": 1}), *PLAIN)


@pytest.mark.parametrize(
    ("inputs", "options"),
    [
        ({"latent": ["N", 3], "tags": ["N", 2]}, {}),
        ({"class_onehot": ["N", 2], "input": ["N", 3]}, {}),
        ({"a": ["N", 3], "b": ["N", 2]}, {"z_dim": 3}),
        ({"b": ["N", 2], "z": ["N", 3]}, {"label_dim": 2}),
        ({"z": ["N", 3, 1, 1], "c": ["N", 2, 1, 1]}, {}),
    ],
    ids=["by both names", "by the label's name", "by size", "by the name of z", "with axes of size 1"],
)
def test_label_is_told_from_z(job, inputs, options):
    """Of two inputs, names or the size say which is z."""
    z_name, label_name = sorted(inputs, key=lambda name: -inputs[name][1])
    flat = [("Flatten", [name], [result]) for name, result in ((z_name, "first"), (label_name, "second"))]
    write_model(job.file, (*flat, *CONDITIONAL), inputs=inputs)

    report = import_onnx(replace(job, **options, label_names=("cat", "dog")))

    assert (3, 2, ("cat", "dog")) == (report.manifest.z_dim, report.manifest.label_dim, report.manifest.label_names)
    drawn = draw(report.directory, z=Z[:, :3], label=Z[:, 3:])["image"]
    np.testing.assert_allclose(plain_image(Z), drawn, atol=1e-6)


def test_one_input_is_split(job):
    """A single input of z and label together is fed with both."""
    write_model(job.file, PLAIN)

    report = import_onnx(replace(job, z_dim=4))

    assert (4, 1) == (report.manifest.z_dim, report.manifest.label_dim)
    drawn = draw(report.directory, z=Z[:, :4], label=Z[:, 4:])["image"]
    np.testing.assert_allclose(plain_image(Z), drawn, atol=1e-6)


def test_other_layout_and_range_are_brought_to_the_contract(job):
    """Channels last and levels of 0 to 255 become channels first and -1 to 1."""
    nodes = (
        LINEAR,
        FOLD,
        ("Sigmoid", ["square"], ["unit"]),
        ("Mul", ["unit", "top"], ["level"]),
        ("Transpose", ["level"], ["picture"], {"perm": [0, 2, 3, 1]}),
    )
    write_model(job.file, nodes, image=["N", 8, 8, 3], weights=[constant("top", 255)])

    drawn = draw(import_onnx(replace(job, value_range="0,255")).directory, z=Z)

    weight = 0.1 * np.random.RandomState(1).randn(5, 192).astype(np.float32)
    unit = 1 / (1 + np.exp(-(Z @ weight.astype(np.float32)).reshape(-1, 3, 8, 8)))
    np.testing.assert_allclose(2 * unit - 1, drawn["image"], atol=1e-5)
    assert np.array_equal(levels(drawn["image"]), drawn["pixels"])


@pytest.mark.parametrize("batch", [1, 3])
def test_fixed_batch_is_opened_where_that_works(job, batch):
    """A graph whose only fixed size is the declared one runs at every batch size, which is tried and noted."""
    write_model(job.file, PLAIN, inputs={"noise": [batch, 5]}, image=[batch, 3, 8, 8])

    report = import_onnx(job)

    assert any(f"for a batch of {batch}" in note for note in report.notes)
    np.testing.assert_allclose(plain_image(Z), draw(report.directory, z=Z)["image"], atol=1e-6)


def test_fixed_batch_is_refused_where_it_is_built_in(job):
    """A reshape to one image cannot take two."""
    fold = ("Reshape", ["flat", "one"], ["square"])
    weights = [constant("one", [1, 3, 8, 8], np.int64)]
    write_model(job.file, (LINEAR, fold, TANH), inputs={"noise": [1, 5]}, image=[1, 3, 8, 8], weights=weights)

    with pytest.raises(CheckpointError, match=r"a batch of exactly 1.*dynamic batch axis"):
        import_onnx(job)

    assert not job.out.exists()


def test_model_in_training_mode_is_refused(job):
    """Where batch statistics enter, an image depends on its neighbors."""
    mean = ("ReduceMean", ["square"], ["mean"], {"axes": [0], "keepdims": 1})
    write_model(job.file, (LINEAR, FOLD, mean, ("Sub", ["square", "mean"], ["picture"])))

    with pytest.raises(VerificationError, match=r"depends on the others of its batch.*training mode"):
        import_onnx(job)

    assert not job.out.exists()


def test_own_names_may_clash(job):
    """A graph that uses our names for other things is taken as well."""
    nodes = (
        ("MatMul", ["image", "weight"], ["pixels"]),
        ("Reshape", ["pixels", "shape"], ["z"]),
        ("Tanh", ["z"], ["picture"]),
    )
    write_model(job.file, nodes, inputs={"image": ["N", 5]})

    np.testing.assert_allclose(plain_image(Z), draw(import_onnx(job).directory, z=Z)["image"], atol=1e-6)


def test_negative_values_are_missed(job):
    """An image that is never negative probably has another range, which is noted, not guessed."""
    write_model(job.file, (LINEAR, FOLD, ("Sigmoid", ["square"], ["picture"])))

    assert any("--value-range 0,1" in note for note in import_onnx(job).notes)


def body(*nodes):
    return helper.make_graph([helper.make_node(*node) for node in nodes], "body", [], [])


REFUSED = {
    "other libraries": {"nodes": (("Magic", ["noise"], ["picture"], {"domain": "com.acme"}),), "domains": ["com.acme"]},
    "draws random numbers": {"nodes": (LINEAR, FOLD, ("RandomNormalLike", ["square"], ["picture"]))},
    "operator set 7 is too old": {"nodes": PLAIN, "opset": 7},
    r"3 inputs \('a', 'b', 'c'\)": {
        "nodes": (("Concat", ["a", "b", "c"], ["noise"], {"axis": 1}), *PLAIN),
        "inputs": {"a": ["N", 2], "b": ["N", 2], "c": ["N", 1]},
    },
    "0 inputs": {"nodes": PLAIN, "inputs": {}, "weights": [constant("noise", [[0] * 5])]},
    r"which of its inputs 'a' \(3 numbers\) and 'b' \(2\) is z": {
        "nodes": (("Concat", ["a", "b"], ["noise"], {"axis": 1}), *PLAIN),
        "inputs": {"a": ["N", 3], "b": ["N", 2]},
    },
    r"'noise' has shape \['N', 5, 2\]": {"nodes": PLAIN, "inputs": {"noise": ["N", 5, 2]}},
    r"'noise' has shape \['N', 'N'\]": {"nodes": PLAIN, "inputs": {"noise": ["N", "Z"]}},
    "0 are images": {"nodes": (("Tanh", ["noise"], ["picture"]),), "image": ["N", 5]},
    "supported are squares": {
        "nodes": (LINEAR, ("Reshape", ["flat", "wide"], ["picture"])),
        "image": ["N", 3, 4, 16],
        "weights": [constant("wide", [-1, 3, 4, 16], np.int64)],
    },
    "hold NaN": {"nodes": (LINEAR, FOLD, ("Log", ["square"], ["picture"]))},
    "hold values of .* set --value-range": {
        "nodes": (LINEAR, FOLD, ("Exp", ["square"], ["mild"]), ("Exp", ["mild"], ["picture"]))
    },
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_no_generator_is_refused(job, words):
    """Everything that cannot be served is said in one sentence, and nothing is made."""
    options = dict(REFUSED[words])
    write_model(job.file, options.pop("nodes"), **options)

    with pytest.raises(CheckpointError, match=words):
        import_onnx(job)

    assert not job.out.exists()


def test_weights_in_other_files_are_refused(job):
    """A model that names another file is not complete, and the name could be anything."""
    write_model(job.file, PLAIN)
    model = onnx.load(job.file)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    job.file.write_bytes(model.SerializeToString())

    with pytest.raises(CheckpointError, match="weights lie in other files"):
        import_onnx(job)


def test_loops_and_own_operators_are_refused(job):
    """A loop may never end; operators that the file defines are not looked into. Both also inside a branch."""
    write_model(job.file, PLAIN)
    model = onnx.load(job.file)
    loop = helper.make_node("Loop", ["", "true"], [], body=body())
    branch = helper.make_node(
        "If", ["true"], [], then_branch=helper.make_graph([loop], "b", [], []), else_branch=body()
    )
    model.graph.node.append(branch)
    job.file.write_bytes(model.SerializeToString())

    with pytest.raises(CheckpointError, match="loops are not supported: 'Loop'"):
        import_onnx(job)

    model.functions.add(name="mine", domain="local")
    job.file.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="operators of its own"):
        import_onnx(job)


@pytest.mark.parametrize("content", [b"", b"hello, world", b"\x80\x04.", b"\x08\x08", bytes(1000)])
def test_other_files_are_refused(job, content):
    """What is no ONNX model is called so."""
    job.file.write_bytes(content)

    with pytest.raises(CheckpointError, match="not an ONNX model"):
        import_onnx(job)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"z_dim": 0}, CheckpointError, "does not fit a z of 0"),
        ({"z_dim": 6}, CheckpointError, "does not fit a z of 6"),
        ({"label_dim": 5}, CheckpointError, "does not fit a z of 0"),
        ({"label_dim": 2, "z_dim": 4}, CheckpointError, "a label of 1 numbers, not 2"),
        ({"label_names": ("a",)}, BundleError, "1 label names do not fit 0 labels"),
        ({"value_range": "0,2"}, BundleError, "unknown range '0,2'"),
        ({"name": "../x"}, BundleError, "is not allowed"),
    ],
)
def test_what_a_person_can_change_is_said(job, changes, error, words):
    """Options that do not fit the file are refused with both numbers."""
    write_model(job.file, PLAIN)

    with pytest.raises(error, match=words):
        import_onnx(replace(job, **changes))


def test_damaged_files_give_our_errors_only(job):
    """Whatever byte is changed, the file is taken or refused by an error of ours."""
    write_model(job.file, PLAIN)
    content, random = job.file.read_bytes(), np.random.RandomState(0)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(content)
        for place in random.randint(len(content), size=random.randint(1, 4)):
            damaged[place % 200 if random.rand() < 0.7 else place] = random.randint(256)
        job.file.write_bytes(damaged)
        try:
            import_onnx(replace(job, force=True))
            outcomes.add("taken")
        except (BundleError, CheckpointError, VerificationError):
            outcomes.add("refused")

    assert {"taken", "refused"} == outcomes
