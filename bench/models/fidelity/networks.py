"""Comparisons of generators, encoders, blends and networks of full size with the originals' arrays and files."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from models.fidelity.exports import Exported
from models.fidelity.report import Meter, Row
from stylewire.keyframes import CubicPath, frame_positions
from stylewire.latents import Array, broadcast, mix, sample_z, truncate
from support.golden import Case, crops


def generator_rows(model: Exported, case: Case, meter: Meter) -> Iterator[Row]:
    """Compare w, truncation, and images with stored noise, without noise and of mixed codes."""
    arrays = case.arrays
    w = case.map(arrays["z"], arrays.get("c"))
    yield meter.values("w", "", arrays["w"], w)
    if "w_avg" in arrays:
        codes = broadcast(w, case.layer_count)
        yield meter.values("w", "psi 0.7", arrays["w_psi07"], truncate(codes, model.mean_w, 0.7))
        cut = truncate(codes, model.mean_w, 0.5, slice(4))
        yield meter.values("w", "psi 0.5 on 4 rows", arrays["w_psi05_cut4"], cut)
    codes = case.codes_of(arrays["w"])
    expected = {"image": arrays["img_const"], "pixels": arrays["img_const_u8"]}
    yield meter.picture("stored noise", expected, case.draw(codes), "round")
    yield meter.values("image", "no noise", arrays["img_none"], case.draw(codes, 0.0)["image"])
    yield meter.values("image", "mixed w+", arrays["img_wplus_const"], case.draw(arrays["wplus"])["image"])
    if "img_psi07_const" in arrays:
        drawn = case.draw(truncate(codes[:1], model.mean_w, 0.7))["image"]
        yield meter.values("image", "psi 0.7", arrays["img_psi07_const"], drawn)
    if "img_tf_generate_psi05" in arrays:
        yield meter.values(
            "image", "noise of the seed", arrays["img_tf_generate_psi05"], _drawn_with_noise(model, case)
        )
    if (case.folder / "generate_py").exists():
        yield from _tool_rows(model, case, meter)


def _drawn_with_noise(model: Exported, case: Case) -> Array:
    """Draw as TensorFlow's tool does: truncated by 0.5, the noise continuing the random numbers of z."""
    images = []
    for seed, w in zip(case.meta["seeds"], case.arrays["w"], strict=True):
        random = np.random.RandomState(seed)
        random.randn(case.meta["z_dim"])
        noise = random.randn(1, case.noise_size).astype(np.float32)
        codes = truncate(case.codes_of(w[None]), model.mean_w, 0.5)
        images.append(case.draw(codes, 0.0, noise)["image"])
    return np.concatenate(images)


def _tool_rows(model: Exported, case: Case, meter: Meter) -> Iterator[Row]:
    """Compare with the files that generate.py, style_mixing.py and gen_video.py wrote."""
    z = np.stack([sample_z(seed, case.meta["z_dim"]) for seed in range(6)])
    codes = case.codes_of(case.map(z))
    made = case.draw(codes[:4])["pixels"]
    paths = [f"generate_py/seed{seed:04d}.png" for seed in range(4)]
    yield meter.files("files", "generate.py", _read(case, paths), made)
    made = case.draw(truncate(codes[5:6], model.mean_w, 0.7), 0.0)["pixels"]
    expected = _read(case, ["generate_py_trunc07_none/seed0005.png"])
    yield meter.files("files", "generate.py psi 0.7", expected, made)
    with np.load(case.folder / "projected_w.npz") as file:
        made = case.draw(file["w"])["pixels"]
    expected = _read(case, ["generate_py_projected_w/proj00.png"])
    yield meter.files("files", "projected w", expected, made)
    cut = truncate(codes, model.mean_w, 0.8)
    pairs = [(row, column) for row in (0, 1) for column in (2, 3)]
    made = case.draw(np.stack([mix(cut[row], cut[column], slice(0, 4)) for row, column in pairs]))["pixels"]
    paths = [f"style_mixing_py/{row}-{column}.png" for row, column in pairs]
    yield meter.files("files", "style_mixing.py", _read(case, paths), made)
    with np.load(case.folder / "interpolation.npz") as file:
        keyframes, expected, indices = file["keyframes"], file["frames_u8"], file["frames_u8_index"]
        frame_count = len(file["frames_w"])
    path = CubicPath.through(keyframes, looped=True)
    positions = frame_positions(len(keyframes), frame_count, looped=True)
    made = case.draw(np.stack([path.at(positions[index]) for index in indices]))["pixels"]
    yield meter.files("files", "gen_video.py", expected, made)


def _read(case: Case, paths: list[str]) -> np.ndarray:
    """Read pictures of one size: uint8[N, H, W, C]."""
    pictures = []
    for path in paths:
        with Image.open(case.folder / path) as picture:
            pictures.append(np.asarray(picture))
    return np.stack(pictures)


def full_size_rows(model: Exported, case: Case, meter: Meter) -> Iterator[Row]:
    """Compare w and patches of images of published size."""
    arrays = case.arrays
    yield meter.values("w", "", arrays["w"], case.map(arrays["z"]))
    codes = broadcast(arrays["w"], case.layer_count)
    yield meter.values("w", "psi 0.7", arrays["w_psi07"], truncate(codes, model.mean_w, 0.7))
    corners = case.meta.get("crop_top_left", [[0, 0]])
    suffix = "crops" if "img_const_crops" in arrays else "first"
    drawn = {"const": case.draw(codes[:1]), "none": case.draw(codes[:1], 0.0), "wplus": case.draw(arrays["wplus"])}
    found = _patches(drawn["const"], corners)
    shape = found["image"].shape
    u8 = arrays["img_const_crops_u8" if suffix == "crops" else "img_const_first_u8"]
    expected = {
        "image": arrays[f"img_const_{suffix}"].reshape(shape),
        "pixels": u8.reshape(found["pixels"].shape),
    }
    yield meter.picture("stored noise", expected, found, "round")
    chosen = {"none": corners[2:3] or corners, "wplus": corners[-2:]}
    names = {"none": ("no noise", f"img_none_{suffix}"), "wplus": ("mixed w+", f"img_wplus_const_{suffix}")}
    for key, (detail, name) in names.items():
        image = crops(drawn[key]["image"], chosen[key])
        yield meter.values("image", detail, arrays[name].reshape(image.shape), image)


def _patches(drawn: dict, corners: list) -> dict:
    pixels = crops(drawn["pixels"].transpose(0, 3, 1, 2), corners).transpose(0, 2, 3, 1)  # [patches, 64, 64, C]
    return {"image": crops(drawn["image"], corners), "pixels": pixels}


def encoder_rows(case: Case, meter: Meter) -> Iterator[Row]:
    """Compare codes, reconstructions and mixed codes."""
    arrays = case.arrays
    codes = case.run("encoder", {"image": arrays["input"].astype(np.float32)})["w_plus"]
    yield meter.values("codes", "", arrays["latents"], codes)
    # Where the golden data have no bytes, pSp's rule for them, as written, is applied to the original's image.
    image = arrays["img"].transpose(0, 2, 3, 1)  # [N, H, W, C]
    u8 = arrays.get("img_u8", np.clip((image + 1) / 2 * np.float32(255), 0, 255).astype(np.uint8))
    yield meter.picture("reconstruction", {"image": arrays["img"], "pixels": u8}, case.draw(codes), "truncate")
    if "img_inject" in arrays:
        rows, alpha = arrays["latent_mask"], arrays["alpha"]
        injected = case.codes_of(case.map(arrays["inject_z"]))
        yield meter.values("codes", "injected z", arrays["inject_latent"], injected)
        mixed = codes[:1].copy()
        mixed[:, rows] = alpha * injected[:, rows] + (1 - alpha) * mixed[:, rows]
        yield meter.values("image", "mixed w+", arrays["img_inject"], case.draw(mixed)["image"])


def blend_row(case: Case, meter: Meter, name: str) -> Row:
    """Compare the picture of sample 0 of a blended generator."""
    drawn = case.draw(case.codes_of(case.arrays["w"][:1]))["image"]
    return meter.values("image", name, case.arrays[f"img_{name}"], drawn)
