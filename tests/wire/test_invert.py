"""Invert over a real connection, and pictures as a source of latents."""

import io

import numpy as np
import pytest
from PIL import Image

from stylewire import UnsupportedError, pb
from stylewire.tensors import to_array
from support.pictures import avatar, five_points, pixels, saved, sixty_eight_points, worst_difference
from support.refusals import refusal


def invert(stub, content=None, **request) -> pb.InvertResponse:
    image = request.pop("image", None) or pb.ImageSource(content=avatar() if content is None else content)
    return stub.Invert(pb.InvertRequest(image=image, **request))


def test_invert_gives_a_code_of_the_generator(demo):
    """The code has a row for each layer, and Generate makes the reconstruction of it."""
    reply = invert(demo, return_reconstruction=True)
    made = demo.Generate(pb.GenerateRequest(latents=[pb.Latent(w_plus=reply.code)])).images

    assert (10, 128) == to_array(reply.code).shape
    assert 1 >= worst_difference(made, [reply.reconstruction])


def test_invert_brings_back_what_the_generator_made(demo):
    """A picture of the generator comes back closer to itself than to another one."""
    images = demo.Generate(pb.GenerateRequest(latents=[pb.Latent(seed=1), pb.Latent(seed=2)])).images
    again = pixels(invert(demo, images[0].content, return_reconstruction=True).reconstruction).astype(float)
    own, other = (np.square(again - pixels(image)).mean() for image in images)
    print(f"mean squared difference to the original {own:.1f}, to another picture {other:.1f}")

    assert own < other / 2


def test_invert_distortion_is_the_difference_of_what_it_shows(demo):
    """Distortion is the mean squared difference of reconstruction and aligned picture, in [-1, 1]."""
    reply = invert(demo, return_reconstruction=True)
    seen, made = (pixels(image).astype(float) / 127.5 for image in (reply.aligned, reply.reconstruction))

    assert pytest.approx(np.square(made - seen).mean(), rel=1e-3) == reply.distortion


def test_invert_without_reconstruction_makes_no_picture(demo):
    """Reconstruction and distortion are absent unless asked for; what the encoder saw is there."""
    reply = invert(demo)

    assert not reply.HasField("reconstruction")
    assert not reply.HasField("distortion")
    assert (64, 64) == (reply.aligned.width_px, reply.aligned.height_px)


@pytest.mark.parametrize("image_format", pb.ImageFormat.values(), ids=pb.ImageFormat.keys())
def test_invert_answers_in_every_format(demo, image_format):
    """Aligned picture and reconstruction come in the form that was asked for."""
    reply = invert(demo, return_reconstruction=True, output_config=pb.OutputConfig(format=image_format))

    assert reply.aligned.mime_type == reply.reconstruction.mime_type
    assert reply.aligned.tensor.data_type == reply.reconstruction.tensor.data_type
    assert list(reply.aligned.tensor.shape) == list(reply.reconstruction.tensor.shape)


def test_aligned_picture_inverts_to_the_same_code(demo):
    """What the encoder saw, sent again, is the same picture to it."""
    first = invert(demo, saved(Image.open(io.BytesIO(avatar())).resize((150, 110))))
    again = invert(demo, first.aligned.content)

    assert np.allclose(to_array(first.code), to_array(again.code), atol=1e-4)


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_invert_takes_every_file(demo, image_format, mode):
    """PNG, JPEG and WebP, gray and in color, are all photos."""
    content = saved(Image.open(io.BytesIO(avatar())).convert(mode), image_format)

    assert (10, 128) == to_array(invert(demo, content).code).shape


@pytest.mark.parametrize("landmarks", [five_points, sixty_eight_points])
def test_alignment_cuts_the_face_out(demo, landmarks):
    """With landmarks the encoder sees the face upright wherever it was in the photo."""
    side_px = 256
    face = Image.open(io.BytesIO(avatar())).convert("RGB").resize((side_px, side_px))
    photo = Image.new("RGB", (500, 400), "gray")
    photo.paste(face, (200, 100))
    moved = pb.Landmarks(points=[pb.Point(x_px=p.x_px + 200, y_px=p.y_px + 100) for p in landmarks(side_px).points])
    given = [(saved(photo), moved), (saved(face), landmarks(side_px))]
    seen = [
        pixels(invert(demo, image=pb.ImageSource(content=c, alignment=pb.ALIGNMENT_FACE, landmarks=points)).aligned)
        for c, points in given
    ]
    inner = (slice(16, 48), slice(16, 48))  # outside, one has a gray surrounding and the other a mirrored border
    difference = np.abs(seen[0][inner].astype(int) - seen[1][inner]).max()
    print(f"largest difference of the two faces {difference}")

    assert difference <= 2


def test_five_and_sixty_eight_landmarks_cut_the_same(demo):
    """The five points and the 68 of the same face give the same crop."""
    replies = [
        invert(demo, image=pb.ImageSource(content=avatar(), alignment=pb.ALIGNMENT_FACE, landmarks=points(64))).aligned
        for points in (five_points, sixty_eight_points)
    ]

    assert 1 >= worst_difference(replies[:1], replies[1:])


@pytest.mark.parametrize("encoder", ["", "encoder"])
def test_encoder_is_found_by_name_or_by_being_the_only_one(demo, encoder):
    """The only encoder needs no name."""
    reply = invert(demo, image=pb.ImageSource(content=avatar(), encoder=encoder))

    assert invert(demo).code == reply.code


def test_invert_needs_an_encoder(demo):
    """A model without one is FAILED_PRECONDITION, and the message says so."""
    error = refusal(demo.Invert, pb.InvertRequest(model="pixels", image=pb.ImageSource(content=avatar())))

    assert UnsupportedError is type(error)
    assert "'pixels' has no encoder" in error.message


def test_photo_of_one_domain_is_rendered_by_another(demo):
    """Latent.model encodes with avatars, the request's model renders as pixels."""
    latent = pb.Latent(image=pb.ImageSource(content=avatar()), model="avatars")
    crossed = demo.Generate(pb.GenerateRequest(model="pixels", latents=[latent], return_codes=True))
    code = invert(demo).code
    direct = demo.Generate(pb.GenerateRequest(model="pixels", latents=[pb.Latent(w_plus=code)]))
    own = demo.Generate(pb.GenerateRequest(model="avatars", latents=[pb.Latent(w_plus=code)]))

    assert np.allclose(to_array(code), to_array(crossed.codes[0]), atol=1e-5)
    assert 1 >= worst_difference(direct.images, crossed.images)
    assert 50 < worst_difference(direct.images, own.images)
