"""Generators of other architectures than StyleGAN2: what is read from a file, and what becomes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from stylewire.manifest import Manifest
from stylewire_export.bundle import ExportJob, export_model
from stylewire_export.checkpoints import read_any_generator, read_encoder, read_generator
from stylewire_export.checkpoints.config import AnimeConfig, DcganConfig
from stylewire_export.errors import BundleError, CheckpointError
from stylewire_export.exportable import make_exportable
from stylewire_export.networks.anime import AnimeFaces
from stylewire_export.networks.dcgan import Dcgan
from stylewire_export.verify import verify_directory

DCGAN = DcganConfig(input_dim=12, widths=(8, 6, 3), biased=(False, False, False))
ANIME = AnimeConfig(
    input_dim=133, width=4, start_px=4, residual_count=2, up_widths=(4, 3), image_kernel_px=9, image_channels=3
)


def trained(network):
    """Give batch norms statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def stylegan1_state(*, widths=(6, 5, 4), trained_count=3, fused_from=2, z_dim=7, w_dim=8):
    """A small file of rosinality's StyleGAN1; blocks that were never trained have zeros for noise and bias."""
    torch.manual_seed(0)
    state = {}

    def layer(name, *shape):
        state[f"{name}.weight_orig"], state[f"{name}.bias"] = torch.randn(shape), torch.randn(shape[0])

    for index, in_size in enumerate((z_dim, w_dim)):
        layer(f"style.{2 * index + 1}.linear", w_dim, in_size)
    blur = torch.outer(*[torch.tensor([0.25, 0.5, 0.25])] * 2)
    for index, width in enumerate(widths):
        name, in_width = f"generator.progression.{index}", widths[max(index - 1, 0)]
        if index == 0:
            state[f"{name}.conv1.input"] = torch.randn(1, width, 4, 4)
        elif index >= fused_from:
            state[f"{name}.conv1.0.weight"] = torch.randn(in_width, width, 3, 3)
            state[f"{name}.conv1.0.bias"] = torch.randn(width)
        else:
            layer(f"{name}.conv1.1.conv", width, in_width, 3, 3)
        for part in ("weight", "weight_flip") if index else ():
            state[f"{name}.conv1.{1 if index >= fused_from else 2}.{part}"] = blur.repeat(width, 1, 1, 1)
        layer(f"{name}.conv2.conv", width, width, 3, 3)
        for number in (1, 2):
            state[f"{name}.noise{number}.weight_orig"] = torch.randn(1, width, 1, 1)
            layer(f"{name}.adain{number}.style.linear", 2 * width, w_dim)
            if index >= trained_count:
                state[f"{name}.noise{number}.weight_orig"].zero_()
        if index >= trained_count:
            state[f"{name}.conv2.conv.bias"].zero_()
        layer(f"generator.to_rgb.{index}.conv", 3, width, 1, 1)
    return state


@pytest.fixture
def save(tmp_path):
    """Write an object as a checkpoint."""

    def write(content, name="network.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def job(tmp_path):
    return ExportJob(generator=tmp_path / "network.pt", name="tiny", out=tmp_path / "models", formats=("onnx",))


@pytest.mark.parametrize(
    "config",
    [
        DCGAN,
        DcganConfig(input_dim=1, widths=(3, 1), biased=(False, True)),
        DcganConfig(input_dim=110, widths=(9, 7, 5, 4, 3, 4), biased=(True, False, True, False, False, True)),
    ],
    ids=["16 px", "8 px gray", "128 px rgba with biases"],
)
def test_dcgan_is_read_at_any_size(save, config):
    """Input, widths, depth and biases of a DCGAN generator come from the shapes."""
    network = trained(Dcgan(config))

    checkpoint = read_any_generator(save(network.state_dict()))

    assert config == checkpoint.config
    assert 4 * 2 ** (len(config.widths) - 1) == checkpoint.config.resolution_px


def test_anime_generator_is_read_at_any_size(save):
    """Width, blocks and attributes come from the shapes; the split of the input is the paper's."""
    checkpoint = read_any_generator(save(trained(AnimeFaces(ANIME)).state_dict()))

    assert ANIME == checkpoint.config
    generator = make_exportable(checkpoint)
    assert (128, 5, 16) == (generator.z_dim, generator.label_dim, generator.resolution_px)
    assert any("attributes" in note for note in generator.notes)


@pytest.mark.parametrize(
    "wrapped",
    [lambda state: state, lambda state: {"netG": state}, lambda state: {f"module.{n}": t for n, t in state.items()}],
    ids=["bare", "in a dictionary", "of several GPUs"],
)
def test_state_dict_is_found(save, wrapped):
    """The generator is the same in the usual wrappings."""
    state = trained(Dcgan(DCGAN)).state_dict()

    found = read_any_generator(save(wrapped(state))).state

    assert all(torch.equal(state[name], tensor) for name, tensor in found.items())
    assert {name for name in state if "num_batches" not in name} == set(found)


def test_model_without_styles_has_one_graph(save, job):
    """The directory holds the graph ``generator`` alone, and its manifest says that there are no codes."""
    save(trained(Dcgan(DCGAN)).state_dict())

    report = export_model(replace(job, formats=("onnx", "torchscript"), z_dim=9, label_names=("cat", "dog", "elk")))
    manifest = Manifest.read(report.directory)

    assert {"check.npz", "generator.onnx", "generator.pt"} == set(manifest.files)
    assert ("dcgan", 16, 9, 3) == (
        manifest.architecture,
        manifest.resolution_px,
        manifest.z_dim,
        manifest.label_dim,
    )
    assert ("cat", "dog", "elk") == manifest.label_names
    assert (0, 0, (), 0) == (manifest.w_dim, manifest.layer_count, manifest.layers, manifest.noise_size)
    assert not any(report.problems for report in verify_directory(report.directory))


def test_label_takes_the_end_of_the_input(save):
    """A conditional generator gets z and then the label."""
    network = trained(Dcgan(DCGAN))
    (graph,) = make_exportable(read_any_generator(save(network.state_dict())), z_dim=9).graphs
    values = np.random.RandomState(0).randn(2, 12).astype(np.float32)

    image = graph.run({"z": values[:, :9], "label": values[:, 9:]})["image"]

    assert np.array_equal(network(torch.from_numpy(values)).detach().numpy(), image)


def test_latent_spaces_of_two_trainings_differ(save):
    """Without styles, z means something to one network only."""
    state = trained(Dcgan(DCGAN)).state_dict()
    other = state | {"main.0.weight": state["main.0.weight"] + 1}

    ids = [make_exportable(read_any_generator(save(weights))).latent_space for weights in (state, other)]

    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"z_dim": 13}, "takes 12 numbers, so z cannot have 13"),
        ({"z_dim": 0}, "z cannot have 0"),
        ({"resolution_px": 32}, "draws 16 px only, not 32"),
        ({"label_names": ("a",)}, "1 label names do not fit 0 labels"),
        ({"z_dim": 10, "label_names": ("a", "a")}, "all be different"),
        ({"z_dim": 10, "label_names": ("a", "")}, "none empty"),
    ],
)
def test_what_does_not_fit_the_generator_is_refused(save, job, changes, words):
    """A wrong size or wrong names are said before anything is written."""
    save(trained(Dcgan(DCGAN)).state_dict())

    with pytest.raises(BundleError, match=words):
        export_model(replace(job, **changes))

    assert not job.out.exists()


def test_images_of_many_channels_are_refused(save, job):
    """What is no gray or color image cannot be served."""
    save(Dcgan(replace(DCGAN, widths=(8, 6, 5))).state_dict())

    with pytest.raises(CheckpointError, match="images of 5 channels"):
        export_model(job)


def test_generator_without_styles_takes_no_encoder(save, job, tiny_checkpoints):
    """An encoder makes codes, which DCGAN does not read."""
    save(trained(Dcgan(DCGAN)).state_dict())

    with pytest.raises(BundleError, match="takes no codes"):
        export_model(replace(job, encoders=(tiny_checkpoints[1],)))


def test_styles_are_asked_for_by_name(save):
    """Where StyleGAN2 or an encoder is needed, another generator is refused with its kind."""
    path = save(trained(Dcgan(DCGAN)).state_dict())

    with pytest.raises(CheckpointError, match=r"another kind \(dcgan\) than StyleGAN2"):
        read_generator(path)
    with pytest.raises(CheckpointError, match=r"a generator \(dcgan\) without an encoder"):
        read_encoder(path)


def without(name):
    return lambda state: state.pop(name)


def shaped(name, *shape):
    return lambda state: state.update({name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("make", "change", "words"),
    [
        (lambda: Dcgan(DCGAN).state_dict(), without("main.4.running_var"), "missing.*main.4.running_var"),
        (lambda: Dcgan(DCGAN).state_dict(), shaped("main.3.weight", 8, 6, 3, 3), "main.3.weight.*expected"),
        (lambda: Dcgan(DCGAN).state_dict(), shaped("main.9.weight", 3, 3, 4, 4), "missing.*main.7"),
        (lambda: Dcgan(DCGAN).state_dict(), shaped("extra", 1), "do not belong.*extra"),
        (lambda: Dcgan(DCGAN).state_dict(), shaped("main.0.weight", 12, 0, 4, 4), "impossible shape"),
        (lambda: AnimeFaces(ANIME).state_dict(), without("dense.bias"), "missing.*dense.bias"),
        (lambda: AnimeFaces(ANIME).state_dict(), shaped("dense.weight", 65, 133), "expected"),
        (lambda: AnimeFaces(ANIME).state_dict(), shaped("conv3.weight", 3, 3, 8, 8), "even size"),
        (stylegan1_state, without("style.3.linear.bias"), "missing.*style.3.linear.bias"),
        (stylegan1_state, shaped("generator.progression.1.conv2.conv.weight_orig", 5, 5, 1, 1), "expected"),
        (stylegan1_state, shaped("generator.progression.1.conv1.2.weight", 5, 1, 3, 3), "another filter"),
        (stylegan1_state, shaped("generator.other", 1), "do not belong"),
    ],
)
def test_damaged_file_is_refused_by_name(save, make, change, words):
    """What is missing, surplus or of a wrong shape is named."""
    state = dict(make())
    change(state)

    with pytest.raises(CheckpointError, match=words):
        read_any_generator(save(state))


def test_discriminator_of_dcgan_is_refused_by_name(save):
    """The discriminator has similar names, but no batch norm behind its first convolution."""
    state = {"main.0.weight": torch.zeros(4, 3, 4, 4), "main.2.weight": torch.zeros(8, 4, 4, 4)}

    with pytest.raises(CheckpointError, match="a discriminator of DCGAN"):
        read_any_generator(save(state))


def test_stylegan1_becomes_a_model_with_styles(save, job):
    """Two rows a resolution, one noise map a resolution, and the running average of a training snapshot."""
    average = stylegan1_state()
    save({"generator": {name: tensor + 1 for name, tensor in average.items()}, "g_running": average})

    manifest = export_model(replace(job, formats=("onnx", "torchscript"))).manifest

    assert ("stylegan1", 16, 7, 8, 6) == (
        manifest.architecture,
        manifest.resolution_px,
        manifest.z_dim,
        manifest.w_dim,
        manifest.layer_count,
    )
    assert [4, 4, 8, 8, 16, 16] == [layer.resolution_px for layer in manifest.layers]
    assert 4 * 4 + 8 * 8 + 16 * 16 == manifest.noise_size
    assert ("mapping", "synthesis") == manifest.graphs(".onnx") == manifest.graphs(".pt")
    assert any("noise maps" in note for note in manifest.notes)
    found = read_any_generator(job.generator).state["synthesis.torgb.bias"]
    assert torch.equal(average["generator.to_rgb.2.conv.bias"], found)


def test_untrained_blocks_are_left_out(save):
    """The port stores blocks up to 1024 px from the start: the image is taken where training ended."""
    checkpoint = read_any_generator(save(stylegan1_state(trained_count=2)))

    assert 8 == checkpoint.config.resolution_px
    assert any("above 8 px" in note for note in checkpoint.notes)


def test_resolution_of_stylegan1_can_be_named(save):
    """A lower resolution is there as well; one that the file does not hold is refused with those it does."""
    path = save(stylegan1_state())

    assert 8 == read_any_generator(path, resolution_px=8).config.resolution_px
    with pytest.raises(CheckpointError, match="no image of 32 px, only of 8, 16 px"):
        read_any_generator(path, resolution_px=32)


def test_noise_of_stylegan1_follows_the_contract(save):
    """Without strength and noise, the stored maps count for nothing; with strength 1 they change the image."""
    graph = make_exportable(read_any_generator(save(stylegan1_state()))).graphs[1]
    codes = {"w_plus": graph.examples(1)["w_plus"]}

    def draw(strength, noise):
        return graph.run(codes | {"noise_strength": np.array([strength], np.float32), "noise": noise})["image"]

    none = draw(0, np.zeros((1, 1), np.float32))
    assert np.array_equal(none, draw(0, np.zeros((1, 336), np.float32)))
    assert not np.allclose(none, draw(1, np.zeros((1, 1), np.float32)))
    assert not np.allclose(none, draw(0, np.ones((1, 336), np.float32) * np.arange(336, dtype=np.float32)))


def disturbed(state, random):
    """Remove, rename, reshape or duplicate a few tensors."""
    state = dict(state)
    for _ in range(random.randint(1, 3)):
        name = sorted(state)[random.randint(len(state))]
        tensor, kind = state[name], random.randint(5)
        if kind == 0:
            del state[name]
        elif kind == 1:
            state[name.replace("1", "2")] = state.pop(name)
        elif kind == 2:
            state[name] = tensor.float().flatten()[: random.randint(0, 4)]
        elif kind == 3:
            state[name] = torch.zeros([random.randint(0, 9) for _ in range(random.randint(0, 5))])
        else:
            state[name] = torch.full_like(tensor.float(), float("nan"))
    return state


@pytest.mark.parametrize(
    "make",
    [lambda: Dcgan(DCGAN).state_dict(), lambda: AnimeFaces(ANIME).state_dict(), stylegan1_state],
    ids=["dcgan", "anime", "stylegan1"],
)
def test_disturbed_files_give_our_errors_only(save, make):
    """Whatever is wrong with names and shapes, the file is read or refused by an error of ours."""
    state, random, refused = make(), np.random.RandomState(0), 0
    for _ in range(60):
        path = save(disturbed(state, random))
        try:
            read_any_generator(path)
        except CheckpointError:
            refused += 1

    assert refused > 30
