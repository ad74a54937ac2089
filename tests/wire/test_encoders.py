"""Encoder checkpoints of the originals, exported and served: Invert against the golden codes and pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from stylewire import pb
from stylewire.tensors import to_array
from stylewire_export.bundle import ExportJob, export_model
from support.pictures import pixels, saved
from support.servers import running_server

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
FACTOR = 8
CODE_LIMIT = 1e-4  # of the largest magnitude


def model_name(case: str) -> str:
    return case.replace("_", "-")


@pytest.fixture(scope="module")
def stubs(golden, tmp_path_factory):
    """A server of all encoder cases, and of ``upscaler``: one of them, its options changed to super-resolution."""
    out = tmp_path_factory.mktemp("models")
    for case in CASES:
        export_model(ExportJob(**files(golden / case / "model.pt"), name=model_name(case), out=out, formats=("onnx",)))
    checkpoint = torch.load(golden / "psp_narrow64" / "model.pt", map_location="cpu", weights_only=True)
    checkpoint["opts"] |= {"dataset_type": "celebs_super_resolution", "resize_factors": str(FACTOR)}
    torch.save(checkpoint, out / "upscaler.pt")
    export_model(ExportJob(**files(out / "upscaler.pt"), name="upscaler", out=out, formats=("onnx",)))
    with running_server(models=out, default_model="upscaler") as server, server.channel() as channel:
        yield pb.StyleGanServiceStub(channel), pb.ModelServiceStub(channel)


def files(path):
    return {"generator": path, "encoders": (path,)}


def invert(stubs, model, content, **options) -> pb.InvertResponse:
    return stubs[0].Invert(pb.InvertRequest(model=model, image=pb.ImageSource(content=content), **options))


@pytest.mark.parametrize("case", CASES)
def test_invert_gives_the_original_codes_and_reconstructions(stubs, golden, case):
    """Pictures, sketches and label maps, sent as PNG, give the original's codes, and its pictures within one level."""
    with np.load(golden / case / "io.npz") as file:
        sent, codes, images = file["input_u8"], file["latents"], file["img"]

    replies = [
        invert(stubs, model_name(case), saved(Image.fromarray(each)), return_reconstruction=True) for each in sent
    ]

    found = np.stack([to_array(reply.code) for reply in replies])
    error = np.abs(found - codes).max() / np.abs(codes).max()
    expected = np.clip((images.transpose(0, 2, 3, 1) + 1) * 127.5, 0, 255).astype(np.uint8)  # [N, H, W, 3], truncated
    difference = np.abs(np.stack([pixels(reply.reconstruction) for reply in replies]).astype(int) - expected)
    print(f"{case} server: codes {error:.1e}, {(difference > 0).sum()} of {difference.size} bytes off by one level")
    assert error <= CODE_LIMIT
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 2e-4


@pytest.mark.parametrize("case", CASES)
def test_model_tells_what_its_encoder_takes(stubs, golden, case):
    """Task, kind of input and channels come from the file; nothing but super-resolution reduces."""
    meta = json.loads((golden / case / "meta.json").read_text())
    task, kind = {"seg": ("seg", "labels"), "sketch": ("sketch", "sketch")}.get(meta["task"], ("encode", "photo"))

    (encoder,) = stubs[1].GetModel(pb.GetModelRequest(name=model_name(case))).model.encoders

    assert (task, kind, meta["input_nc"], 0) == (
        encoder.task,
        encoder.input_kind,
        encoder.input_channels,
        encoder.reduction,
    )


def test_super_resolution_sees_the_photo_reduced(stubs, golden):
    """What the encoder sees is the original's input, the photo reduced by its factor, within a level."""
    folder = golden / "preprocess"
    with Image.open(folder / f"results/photo1_360x480.png.super_resolution_x{FACTOR}.png") as picture:
        expected = np.asarray(picture)

    reply = invert(stubs, "upscaler", (folder / "photo1_360x480.png").read_bytes())

    difference = np.abs(pixels(reply.aligned).astype(int) - expected)
    print(f"super-resolution x{FACTOR}: {difference.max()} levels in {(difference > 0).mean():.2%} of the values")
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.05  # float rounding before a truncation, as measured in the golden data


def test_super_resolution_names_its_factor(stubs):
    """The model tells clients that photos will be reduced, and by how much."""
    (encoder,) = stubs[1].GetModel(pb.GetModelRequest(name="upscaler")).model.encoders

    assert ("super_resolution", FACTOR) == (encoder.task, encoder.reduction)
