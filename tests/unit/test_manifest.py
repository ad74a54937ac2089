"""The manifest: what is wrong is named with its field."""

import json

import pytest
from pydantic import ValidationError

from stylewire.manifest import EncoderInfo, FileInfo, LayerInfo, Manifest, ManifestError, file_info


def manifest(**changes) -> Manifest:
    fields = {
        "name": "faces",
        "architecture": "stylegan2-skip",
        "resolution_px": 8,
        "image_channels": 3,
        "z_dim": 4,
        "w_dim": 4,
        "layer_count": 1,
        "layers": (LayerInfo(resolution_px=4, role="coarse"),),
        "noise_size": 16,
        "latent_space": "x",
        "files": {},
    }
    return Manifest(**{**fields, **changes})


@pytest.fixture
def directory(tmp_path):
    """A directory with one graph file and its manifest."""
    (tmp_path / "mapping.onnx").write_bytes(b"graph")
    manifest(files={"mapping.onnx": file_info(tmp_path / "mapping.onnx")}).write(tmp_path)
    return tmp_path


def test_manifest_round_trip(directory):
    """What is written is read."""
    found = Manifest.read(directory)

    assert "faces" == found.name
    assert ("mapping",) == found.graphs(".onnx")
    found.verify_files(directory)


def test_missing_manifest_says_what_the_directory_is_not(tmp_path):
    """A folder without model.json is named."""
    with pytest.raises(ManifestError, match="is not a model directory"):
        Manifest.read(tmp_path)


def test_every_wrong_field_is_named(directory):
    """Two wrong fields and one unknown are all in the message."""
    path = directory / "model.json"
    fields = json.loads(path.read_text())
    path.write_text(json.dumps({**fields, "z_dim": -1, "name": "No Spaces", "surprise": 1}))

    with pytest.raises(ManifestError, match=r"(?s)name.*z_dim.*surprise"):
        Manifest.read(directory)


@pytest.mark.parametrize("text", ["", "{", "[]", "\xff"])
def test_broken_json_is_one_error(directory, text):
    """Whatever the file holds, the error is ours."""
    (directory / "model.json").write_bytes(text.encode("latin-1"))

    with pytest.raises(ManifestError):
        Manifest.read(directory)


@pytest.mark.parametrize("name", ["../x.onnx", "/etc/passwd", "a/b.onnx", ".hidden", ""])
def test_file_names_cannot_leave_the_directory(name):
    """Paths in the manifest are refused."""
    with pytest.raises(ValueError, match="plain name"):
        manifest(files={name: FileInfo(sha256="0" * 64, size_bytes=1)})


def test_changed_file_is_named(directory):
    """A file of the same size with another content is found."""
    (directory / "mapping.onnx").write_bytes(b"grapf")

    with pytest.raises(ManifestError, match=r"mapping\.onnx differs"):
        Manifest.read(directory).verify_files(directory)


def test_truncated_and_missing_files_are_named(directory):
    """Size is checked before the digest, absence before size."""
    found = Manifest.read(directory)
    (directory / "mapping.onnx").write_bytes(b"gra")
    with pytest.raises(ManifestError, match="has 3 bytes, the manifest has 5"):
        found.verify_files(directory)

    (directory / "mapping.onnx").unlink()
    with pytest.raises(ManifestError, match=r"mapping\.onnx is absent"):
        found.verify_files(directory)


def test_layers_must_agree_with_their_count():
    """layer_count and layers are checked against each other."""
    with pytest.raises(ValueError, match="layer_count"):
        manifest(layer_count=2)


def test_encoders_need_names_of_their_own():
    """Two encoders cannot be one graph."""
    encoder = EncoderInfo(
        graph="encoder", task="encode", input_kind="photo", input_channels=3, input_height_px=8, input_width_px=8
    )

    with pytest.raises(ValueError, match="same graph"):
        manifest(encoders=(encoder, encoder))


def test_digest_depends_on_content_not_on_order():
    """Equal files give equal digests; another file another one."""
    a, b = FileInfo(sha256="a" * 64, size_bytes=1), FileInfo(sha256="b" * 64, size_bytes=1)

    assert manifest(files={"x": a, "y": b}).digest() == manifest(files={"y": b, "x": a}).digest()
    assert manifest(files={"x": a}).digest() != manifest(files={"x": b}).digest()


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [({"input_kind": "sketch", "reduction": 2}, "not for sketch"), ({"reduction": 9}, "leaves nothing")],
    ids=["no photo", "larger than the input"],
)
def test_encoder_refuses_a_reduction_without_sense(encoder, reason):
    """Only photos are reduced, and only while something is left."""
    given = {"graph": "encoder", "task": "super_resolution", "input_kind": "photo", "input_channels": 3}

    with pytest.raises(ValidationError, match=reason):
        EncoderInfo(**given | {"input_height_px": 8, "input_width_px": 8} | encoder)


def test_generator_without_styles_has_no_codes():
    """Without styles there are neither rows nor w; one of the two alone is an error."""
    found = manifest(w_dim=0, layer_count=0, layers=(), noise_size=0)

    assert (0, 0) == (found.w_dim, found.layer_count)
    with pytest.raises(ValidationError, match="either both are 0 or none"):
        manifest(w_dim=0)


@pytest.mark.parametrize(
    ("names", "reason"),
    [(("cat",), "1 entries, label_dim is 2"), (("cat", "cat"), "same name"), (("cat", ""), "at least 1 character")],
    ids=["one missing", "twice the same", "empty"],
)
def test_label_names_name_every_label_once(names, reason):
    """Labels have one name each, or nobody named them."""
    assert ("cat", "dog") == manifest(label_dim=2, label_names=("cat", "dog")).label_names
    with pytest.raises(ValidationError, match=reason):
        manifest(label_dim=2, label_names=names)
