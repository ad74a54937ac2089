"""Encoders of pSp and e4e against the originals: as PyTorch networks, as ONNX and as TorchScript files."""

from dataclasses import replace

import numpy as np
import pytest

from stylewire_export.checkpoints import read_encoder
from stylewire_export.formats import FORMATS
from stylewire_export.graphs import encoder_graph
from stylewire_export.networks.loading import load_encoder
from stylewire_export.runners import open_graph_file
from stylewire_export.verify import pixel_error

CASES = (
    "psp_narrow64",
    "psp_seg_narrow32",
    "psp_sketch_narrow32",
    "psp_w_narrow32",
    "psp_learn_in_w",
    "psp_wplus_narrow32",
    "e4e_narrow32",
    "e4e_single_style32",
)
MIXING_CASES = ("psp_narrow64", "psp_seg_narrow32", "psp_sketch_narrow32", "psp_wplus_narrow32", "e4e_narrow32")
FORMS = ("pytorch", "onnx", "torchscript", "ncnn")
CODE_LIMIT, IMAGE_LIMIT = 1e-5, 1e-5  # of the largest magnitude; the originals themselves spread by up to 3e-6


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_encoder_gives_the_original_codes(case, measure, name, form):
    """Pictures, label maps and sketches give the original's codes, the mean code added."""
    golden = case(name, form)

    codes = golden.run("encoder", {"image": golden.arrays["input"].astype(np.float32)})["w_plus"]

    assert measure(f"{name} {form} codes", golden.arrays["latents"], codes) <= CODE_LIMIT
    assert measure(f"{name} {form} float64", golden.arrays["latents_float64"], codes) <= CODE_LIMIT


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_decoder_gives_the_original_pictures(case, measure, name, form):
    """The generator inside an encoder checkpoint draws the original's reconstructions."""
    golden = case(name, form)

    drawn = golden.draw(golden.arrays["latents"])

    assert measure(f"{name} {form} image", golden.arrays["img"], drawn["image"]) <= IMAGE_LIMIT
    if "img_u8" in golden.arrays:
        expected = {"image": golden.arrays["img"], "pixels": golden.arrays["img_u8"]}
        assert pixel_error(expected, drawn, "truncate") <= 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MIXING_CASES)
def test_mixed_codes_give_the_original_pictures(case, measure, name, form):
    """Rows of a code mixed with a mapped z, replaced by it, or set to zero draw the original's pictures."""
    golden = case(name, form)
    arrays = golden.arrays
    rows, alpha = arrays["latent_mask"], arrays["alpha"]
    inject = golden.codes_of(golden.map(arrays["inject_z"]))
    mixed, replaced, zeroed = (arrays["latents"][:1].copy() for _ in range(3))
    mixed[:, rows] = alpha * inject[:, rows] + (1 - alpha) * mixed[:, rows]
    replaced[:, rows] = inject[:, rows]
    zeroed[:, rows] = 0

    assert measure(f"{name} {form} inject", arrays["inject_latent"], inject) <= CODE_LIMIT
    for key, codes in (("img_inject", mixed), ("img_inject_noalpha", replaced), ("img_zeroed", zeroed)):
        if key in arrays:
            assert measure(f"{name} {form} mixing", arrays[key], golden.draw(codes)["image"]) <= IMAGE_LIMIT


@pytest.mark.parametrize("form", FORMS)
def test_cars_encoder_takes_wide_pictures(case, measure, tmp_path, form):
    """e4e's cars input, 192 px high and 256 px wide, gives the original's codes."""
    golden = case("e4e_narrow32")
    checkpoint = replace(read_encoder(golden.folder / "model.pt"), input_size_px=(192, 256))
    graph = encoder_graph("encoder", load_encoder(checkpoint), checkpoint.latent_avg)
    if form == "pytorch":
        run = graph.run
    else:
        path = tmp_path / f"cars{FORMATS[form].suffix}"
        FORMATS[form].write(graph, path)
        run = open_graph_file(path, graph.inputs, graph.outputs)
    image = golden.arrays["input_cars_u8"].transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1  # [N, 3, H, W]

    codes = run({"image": image})["w_plus"]

    assert measure(f"e4e_narrow32 {form} cars", golden.arrays["latents_cars"], codes) <= CODE_LIMIT
