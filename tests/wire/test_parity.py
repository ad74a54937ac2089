"""The whole way, checkpoint -> export -> server -> client, against files that the original tools wrote."""

import numpy as np
import pytest
from PIL import Image

from stylewire import pb
from stylewire.tensors import to_array, to_tensor
from stylewire_export.bundle import ExportJob, export_model
from support.pictures import pixels, saved
from support.servers import running_server

RAW = pb.OutputConfig(format=pb.IMAGE_FORMAT_PIXELS)
PSP_INPUT_PX = 256


@pytest.fixture(scope="module")
def exported(golden, tmp_path_factory):
    """A stub of a server of three golden checkpoints: NVIDIA's with and without classes, and pSp's."""
    out = tmp_path_factory.mktemp("golden")
    formats = ("onnx",)
    export_model(ExportJob(generator=golden / "ada64" / "network.pkl", name="ada64", out=out, formats=formats))
    export_model(ExportJob(generator=golden / "ada32cond" / "network.pkl", name="ada32cond", out=out, formats=formats))
    psp = golden / "psp_narrow64" / "model.pt"
    export_model(ExportJob(generator=psp, encoders=(psp,), name="psp", out=out, formats=formats))
    with running_server(models=out) as server, server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


def check(name, expected, images):
    """Every picture equals its original within one 8-bit level; prints the largest difference."""
    found = np.stack([pixels(image) for image in images]).astype(int)
    worst = int(np.abs(np.asarray(expected).reshape(found.shape) - found).max())
    print(f"{name}: largest difference {worst} of 255")

    assert worst <= 1


def png(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def generate(stub, *sources, **fields) -> list[pb.Image]:
    return list(stub.Generate(pb.GenerateRequest(latents=sources, output_config=RAW, **fields)).images)


def test_seeds_give_the_pictures_of_generate_py(golden, exported):
    """A seed is the picture of ``generate.py --seeds`` of the same checkpoint."""
    images = generate(exported, *(pb.Latent(seed=seed) for seed in range(4)), model="ada64")
    files = [png(golden / "ada64" / "generate_py" / f"seed{seed:04}.png") for seed in range(4)]

    check("generate.py --seeds=0-3", files, images)


def test_truncation_and_no_noise_give_the_picture_of_generate_py(golden, exported):
    """Psi and NONE are ``generate.py --trunc=0.7 --noise-mode=none``."""
    latent = pb.Latent(seed=5, truncation=pb.Truncation(psi=0.7))
    images = generate(exported, latent, model="ada64", noise=pb.Noise(mode=pb.Noise.MODE_NONE))
    file = png(golden / "ada64" / "generate_py_trunc07_none" / "seed0005.png")

    check("generate.py --trunc=0.7 --noise-mode=none", [file], images)


def test_projected_code_gives_the_picture_of_generate_py(golden, exported):
    """A w+ code is ``generate.py --projected-w``."""
    code = np.load(golden / "ada64" / "projected_w.npz")["w"][0]
    images = generate(exported, pb.Latent(w_plus=to_tensor(code)), model="ada64")

    check("generate.py --projected-w", [png(golden / "ada64" / "generate_py_projected_w" / "proj00.png")], images)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("column", [2, 3])
def test_mixture_is_that_of_style_mixing_py(golden, exported, row, column):
    """MixStyles is ``style_mixing.py --styles=0-3 --trunc=0.8``."""
    truncation = pb.Truncation(psi=0.8)
    style = pb.StyleSource(latent=pb.Latent(seed=column, truncation=truncation), layer_range=pb.LayerRange(end_layer=4))
    content = pb.Latent(seed=row, truncation=truncation)
    request = pb.MixStylesRequest(model="ada64", content=content, styles=[style], output_config=RAW)
    file = png(golden / "ada64" / "style_mixing_py" / f"{row}-{column}.png")

    check(f"style_mixing.py {row}-{column}", [file], [exported.MixStyles(request).image])


def test_looped_cubic_walk_is_that_of_gen_video_py(golden, exported):
    """CUBIC, looped, gives the codes and the frames of gen_video.py."""
    arrays = np.load(golden / "ada64" / "interpolation.npz")
    frame_count = len(arrays["frames_w"])
    keyframes = [pb.Latent(seed=int(seed), truncation=pb.Truncation(psi=0.8)) for seed in arrays["seeds"]]
    request = pb.InterpolateRequest(
        model="ada64",
        keyframes=keyframes,
        frame_count=frame_count,
        method=pb.InterpolateRequest.METHOD_CUBIC,
        looped=True,
        output_config=RAW,
        return_codes=True,
    )
    frames = list(exported.Interpolate(request))
    codes = np.stack([to_array(frame.code)[0] for frame in frames])
    worst = np.abs(codes - arrays["frames_w"]).max()
    print(f"gen_video.py: largest difference of w {worst:.2g}")

    assert worst < 1e-5 * np.ptp(arrays["frames_w"])
    check("gen_video.py", arrays["frames_u8"], [frames[index].image for index in arrays["frames_u8_index"]])


def test_classes_give_the_original_pictures(golden, exported):
    """class_index is the one-hot label of the original."""
    arrays = np.load(golden / "ada32cond" / "io.npz")
    labels = arrays["c"].argmax(axis=1).tolist()
    sources = [pb.Latent(z=to_tensor(z), class_index=c) for z, c in zip(arrays["z"], labels, strict=True)]
    one_hot = np.eye(arrays["c"].shape[1], dtype=np.float32)[labels]

    assert np.array_equal(one_hot, arrays["c"])
    check("ada32cond", arrays["img_const_u8"], generate(exported, *sources, model="ada32cond"))


def test_inversion_is_that_of_psp(golden, exported):
    """Invert gives pSp's code of a photo and its picture of that code."""
    arrays = np.load(golden / "psp_narrow64" / "io.npz")
    replies = [
        exported.Invert(
            pb.InvertRequest(
                model="psp",
                image=pb.ImageSource(content=saved(Image.fromarray(photo))),
                return_reconstruction=True,
                output_config=RAW,
            )
        )
        for photo in arrays["input_u8"]
    ]
    codes = np.stack([to_array(reply.code) for reply in replies])
    worst = np.abs(codes - arrays["latents"]).max()
    print(f"psp_narrow64: largest difference of the codes {worst:.2g}")

    assert (PSP_INPUT_PX, PSP_INPUT_PX) == (replies[0].aligned.width_px, replies[0].aligned.height_px)
    assert worst < 2e-5
    check("psp_narrow64", arrays["img_u8"], [reply.reconstruction for reply in replies])
