"""Blending against the original layer swapping, and what cannot be blended."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from stylewire.manifest import Manifest
from stylewire_export.blend import BlendError, BlendRule, blend
from stylewire_export.bundle import Blending, ExportJob, export_model
from stylewire_export.checkpoints import read_generator
from stylewire_export.graphs import synthesis_graph
from stylewire_export.networks.generator import Generator
from stylewire_export.networks.loading import load_generator
from stylewire_export.runners import open_graph_file

RULES = {
    "16_level0": BlendRule(resolution_px=16),
    "16_level1": BlendRule(resolution_px=16, level=1),
    "16_level0_fade": BlendRule(resolution_px=16, fade_width=1.0),
    "ge16": BlendRule(resolution_px=16, whole_blocks=True),
}
IMAGES = [
    ("ab", "16_level0"),
    ("ab", "16_level1"),
    ("ba", "16_level0"),
    ("ba", "16_level1"),
    ("ab", "16_level0_fade"),
    ("ab", "ge16"),
    ("ba", "ge16"),
]
LIMIT = 1e-5  # of the largest magnitude


@pytest.fixture(scope="module")
def pair(golden):
    """The two generators of the golden case, their arrays and the case's description."""
    folder = golden / "blend64"
    files = {"a": folder / "network.pkl", "b": folder / "network_b.pkl"}
    with np.load(folder / "io.npz") as file:
        arrays = {key: file[key] for key in file.files}
    return files, arrays, json.loads((folder / "meta.json").read_text())


def draw(run, w, layer_count):
    """The image of sample 0 with the stored noise."""
    noise = {"noise_strength": np.ones(1, np.float32), "noise": np.zeros((1, 1), np.float32)}
    return run({"w_plus": np.repeat(w[:1, None], layer_count, 1)} | noise)["image"]


@pytest.mark.parametrize(("order", "rule"), IMAGES, ids=[f"{order}_{rule}" for order, rule in IMAGES])
def test_blend_draws_the_original_images(pair, measure, order, rule):
    """Both directions, hard and faded, by layers and by whole blocks: the picture is the original's."""
    files, arrays, _ = pair
    base, finetuned = (read_generator(files[letter]) for letter in order)
    generator = load_generator(blend(base, finetuned, RULES[rule]))

    image = draw(synthesis_graph(generator).run, arrays["w"], 10)

    assert measure(f"blend64 pytorch {order}_{rule}", arrays[f"img_{order}_{rule}"], image) <= LIMIT
    assert not np.allclose(arrays["img_const"][:1], image, atol=1e-3)


@pytest.mark.parametrize("column", ["level0", "level1", "fade"])
def test_share_is_the_originals_for_every_layer(pair, column):
    """The original's shares of all layers, which the golden case lists, are computed exactly."""
    rules = {"level0": RULES["16_level0"], "level1": RULES["16_level1"], "fade": RULES["16_level0_fade"]}
    listed = pair[2]["blend"]["share_of_second_model"]

    assert [
        (layer, pytest.approx(shares[column], rel=1e-12)) for layer, shares in listed.items()
    ] == [  # the constant is a tensor, everything else a layer of several
        (layer, rules[column].share(f"synthesis.{layer}{'' if layer == 'b4.const' else '.weight'}")) for layer in listed
    ]


def test_blend_keeps_what_no_rule_names(pair):
    """The 4 px convolution, mapping, mean and noise maps are the base's; a faded blend mixes all the rest."""
    files, _, _ = pair
    base, finetuned = read_generator(files["a"]), read_generator(files["b"])
    blended = blend(base, finetuned, RULES["16_level0_fade"]).state
    kept = {name for name in blended if torch.equal(base.state[name], blended[name])}
    expected = {
        name
        for name in blended
        if name.startswith(("mapping.", "synthesis.b4.conv1.")) or name.endswith(("noise_const", "resample_filter"))
    }

    assert expected == kept


def test_exported_blend_is_a_model_of_the_bases_latent_space(pair, measure, tmp_path):
    """Both formats draw the original's picture; the manifest has the base's space and mean, and names both files."""
    files, arrays, _ = pair
    job = ExportJob(generator=files["a"], name="base", out=tmp_path, formats=("onnx",))
    blending = Blending(finetuned=files["b"], rule=RULES["16_level0"])

    base = export_model(job).manifest
    directory = export_model(replace(job, blending=blending, name="blend", formats=("onnx", "torchscript"))).directory
    manifest = Manifest.read(directory)

    assert base.latent_space == manifest.latent_space
    assert base.files["w_mean.npy"] == manifest.files["w_mean.npy"]
    assert ["network.pkl", "network_b.pkl"] == [source.name for source in manifest.sources]
    for suffix in (".onnx", ".pt"):
        path = directory / f"synthesis{suffix}"
        run = open_graph_file(path, ("w_plus", "noise_strength", "noise"), ("pixels", "image"))
        image = draw(run, arrays["w"], 10)
        assert measure(f"blend64 {suffix[1:]} ab_16_level0", arrays["img_ab_16_level0"], image) <= LIMIT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"w_dim": 12}, "w_dim is 8 in BASE, 12 in FINETUNED"),
        ({"architecture": "orig"}, "architecture is skip in BASE, orig in FINETUNED"),
        ({"image_channels": 4}, "image_channels is 3"),
        ({"channels": ((4, 8), (8, 8), (16, 6), (32, 6))}, "channels is"),
        ({"use_noise": False}, "use_noise is True"),
        ({"resample_filter": (0.25, 0.25, 0.25, 0.25)}, "different up-sampling filters"),
        ({"mapping_layer_count": 3}, "the mapping networks differ.*--latent-space"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_generators_of_other_structure_are_refused(tiny_generator, tmp_path, change, words):
    """The error names what differs, with both values."""
    paths = [tmp_path / "base.pt", tmp_path / "finetuned.pt"]
    torch.save({"g_ema": tiny_generator.state_dict()}, paths[0])
    torch.save({"g_ema": Generator(replace(tiny_generator.config, **change)).state_dict()}, paths[1])

    with pytest.raises(BlendError, match=words):
        blend(*map(read_generator, paths), BlendRule(resolution_px=8))


def test_other_mapping_needs_a_named_latent_space(tiny_generator, tmp_path):
    """A mapping network that moved in the fine-tuning is refused, until a person names the common latent space."""
    paths = [tmp_path / "base.pt", tmp_path / "finetuned.pt"]
    state = tiny_generator.state_dict()
    torch.save({"g_ema": state}, paths[0])
    torch.save({"g_ema": state | {"mapping.fc1.bias": state["mapping.fc1.bias"] + 1}}, paths[1])
    blending = Blending(finetuned=paths[1], rule=BlendRule(resolution_px=8))
    job = ExportJob(generator=paths[0], blending=blending, name="blend", out=tmp_path / "models", formats=("onnx",))

    with pytest.raises(BlendError, match="the mapping networks differ"):
        export_model(job)

    assert not job.out.exists()
    assert "faces" == export_model(replace(job, latent_space="faces")).manifest.latent_space


def test_other_mean_is_no_other_mapping(tiny_generator, tmp_path):
    """The mean of w may drift in a fine-tuning: the base's is kept."""
    paths = [tmp_path / "base.pt", tmp_path / "finetuned.pt"]
    state = tiny_generator.state_dict()
    torch.save({"g_ema": state}, paths[0])
    torch.save({"g_ema": state | {"mapping.w_avg": state["mapping.w_avg"] + 1}}, paths[1])

    blended = blend(*map(read_generator, paths), BlendRule(resolution_px=8))

    assert torch.equal(state["mapping.w_avg"], blended.state["mapping.w_avg"])


def test_other_clamp_is_noted(pair):
    """Whether activations are clamped does not prevent a blend of two families; the base's clamp holds, with a note."""
    base = read_generator(pair[0]["a"])
    finetuned = replace(base, config=replace(base.config, conv_clamp=256.0, fp16_resolution_count=4))

    blended = blend(base, finetuned, BlendRule(resolution_px=16))

    assert base.config == blended.config
    assert "conv_clamp is None in BASE and 256.0 in FINETUNED: BASE's is used" in blended.notes


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"resolution_px": 24}, "24 px is none of a generator"),
        ({"resolution_px": 2}, "2 px is none of a generator"),
        ({"resolution_px": 16, "level": 2}, "level 2 does not exist"),
        ({"resolution_px": 16, "fade_width": 0}, "not a positive number"),
        ({"resolution_px": 16, "fade_width": float("nan")}, "not a positive number"),
        ({"resolution_px": 16, "whole_blocks": True, "level": 1}, "leave out --level and --fade"),
        ({"resolution_px": 64}, "leaves nothing to FINETUNED.*at most 32"),
        ({"resolution_px": 128, "whole_blocks": True}, "leaves nothing to FINETUNED.*at most 64"),
    ],
    ids=["no power", "too small", "level", "zero width", "nan width", "contradiction", "hard at last", "above last"],
)
def test_rules_without_meaning_are_refused(pair, rule, words):
    """A rule that says nothing, or changes nothing, is refused with what would do."""
    base = read_generator(pair[0]["a"])

    with pytest.raises(BlendError, match=words):
        blend(base, base, BlendRule(**rule))
