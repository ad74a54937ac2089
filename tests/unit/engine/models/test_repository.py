"""What a scan of the models folder finds."""

import json
import os
import shutil
from pathlib import Path

import pytest

from stylewire.demo import MODELS
from stylewire.manifest import Manifest
from stylewire.server.engine.models.repository import Repository
from stylewire.server.engine_api.catalog import version_order
from support.folders import put

MANIFEST = MODELS / "pixels" / "model.json"


def make(directory: Path, name: str = "faces") -> Path:
    """A model directory with a manifest alone: a scan reads no other file."""
    directory.mkdir(parents=True)
    Manifest.read(MODELS / "pixels").model_copy(update={"name": name}).write(directory)
    return directory


def found(folder: Path) -> list[str]:
    return [each.reference for each in Repository(folder).scan().model_versions]


def problems(folder: Path) -> dict[str, str]:
    return {each.reference: each.problem for each in Repository(folder).scan().model_versions if each.problem}


def test_versions_are_found_the_newest_first(tmp_path):
    """Versions are the names of directories, and sort as people sort them."""
    for version in ("9", "10", "2", "1.10", "1.9", "2024-06-01"):
        make(tmp_path / "faces" / version)
    make(tmp_path / "cats", "cats")

    assert ["cats", *(f"faces@{v}" for v in ("2024-06-01", "10", "9", "2", "1.10", "1.9"))] == found(tmp_path)


@pytest.mark.parametrize(
    ("older", "newer"),
    [("1", "2"), ("2", "10"), ("1.9", "1.10"), ("v9", "v10"), ("", "0"), ("1", "1.0"), ("2024-9-1", "2024-10-1")],
)
def test_version_is_newer(older, newer):
    """Digits count as numbers; no version is older than any."""
    assert version_order(older) < version_order(newer)


def test_folder_that_is_a_model_counts_as_one(tmp_path):
    """A model directory can be named directly."""
    make(tmp_path / "faces")

    assert ["faces"] == found(tmp_path / "faces")


def test_hidden_directories_are_left_out(tmp_path):
    """Names that begin with a dot are for whoever copies something here."""
    make(tmp_path / ".new-faces")
    make(tmp_path / "faces" / ".3")
    make(tmp_path / "faces" / "2")

    assert ["faces@2"] == found(tmp_path)


def test_version_of_another_name_has_a_problem(tmp_path):
    """The folder of versions is called as its models are."""
    make(tmp_path / "faces" / "2", "cats")

    assert "its model.json names 'cats'" in problems(tmp_path)["faces@2"]


@pytest.mark.parametrize("version", ["a b", "2@3", "x" * 64, "-1", "\N{SNOWMAN}", "2\n"])
def test_wrong_version_has_a_problem(tmp_path, version):
    """A name that cannot be a version is told, under a name that can be shown."""
    make(tmp_path / "faces" / version)
    (told,) = problems(tmp_path).items()

    assert told[0].isascii()
    assert "the name of a version" in told[1]


def test_name_of_a_directory_that_is_no_text_can_be_shown(tmp_path):
    """Bytes that are no UTF-8 do not reach the metrics."""
    (tmp_path / os.fsdecode(b"\xff\xfe")).mkdir()
    shutil.copy(MANIFEST, tmp_path / os.fsdecode(b"\xff\xfe") / "model.json")
    (tmp_path / os.fsdecode(b"\xff\xfe") / "model.json").write_text("{")

    assert all(name.isascii() for name in found(tmp_path))


def test_twins_have_a_problem(tmp_path):
    """Two directories that claim to be the same model are both refused."""
    make(tmp_path / "a")
    make(tmp_path / "b")

    assert ["faces", "faces"] == found(tmp_path)
    assert "two models named faces" in problems(tmp_path)["faces"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "faces"}', "[" * 100_000])
def test_manifest_that_cannot_be_read_has_a_problem(tmp_path, content):
    """Whatever stands in a manifest, the others are found."""
    make(tmp_path / "cats", "cats")
    make(tmp_path / "faces")
    (tmp_path / "faces" / "model.json").write_text(content)

    assert ["cats", "faces"] == found(tmp_path)
    assert ["faces"] == list(problems(tmp_path))


def test_damaged_manifest_keeps_its_name(tmp_path):
    """While a manifest cannot be read its directory is the model that it was, scan after scan."""
    repository = Repository(tmp_path)
    directory = make(tmp_path / "directory", "faces")
    names = [repository.scan().model_versions[0].name]
    (directory / "model.json").write_text("{")
    names += [repository.scan().model_versions[0].name for _ in range(3)]

    assert ["faces"] * 4 == names


@pytest.mark.parametrize("change", ["touch", "size", "replace", "remove", "manifest"])
def test_signature_tells_changes(tmp_path, change):
    """Time, size, inode and absence of the files count, and those of the manifest."""
    directory = put(MODELS / "pixels", tmp_path / "pixels")
    repository, file = Repository(tmp_path), directory / "mapping.onnx"
    before = repository.scan().model_versions[0].signature
    match change:
        case "touch":
            os.utime(file, ns=(1, 1))
        case "size":
            file.write_bytes(b"")
        case "replace":
            stat = file.stat()
            shutil.copy(file, directory / "copy")
            os.utime(directory / "copy", ns=(stat.st_atime_ns, stat.st_mtime_ns))
            (directory / "copy").rename(file)
        case "remove":
            file.unlink()
        case "manifest":
            manifest = json.loads((directory / "model.json").read_text())
            (directory / "model.json").write_text(json.dumps({**manifest, "license": "MIT"}))

    assert before != repository.scan().model_versions[0].signature


def test_signature_ignores_strangers(tmp_path):
    """A file that the manifest does not name changes nothing."""
    directory = put(MODELS / "pixels", tmp_path / "pixels")
    repository = Repository(tmp_path)
    before = repository.scan().model_versions[0].signature
    (directory / "NOTES").write_text("a note")

    assert before == repository.scan().model_versions[0].signature


def test_volume_of_kubernetes_is_followed_to_its_files(tmp_path):
    """A volume that shows files as links to ..data is read where ..data leads now, whatever it leads to later."""
    shutil.copytree(MODELS / "pixels", tmp_path / "pixels" / "..2024_1")
    (tmp_path / "pixels" / "..data").symlink_to("..2024_1")
    for file in (MODELS / "pixels").iterdir():
        (tmp_path / "pixels" / file.name).symlink_to(f"..data/{file.name}")
    (found,) = Repository(tmp_path).scan().model_versions

    assert (tmp_path / "pixels" / "..2024_1").resolve() == found.content_directory()


def test_files_that_are_links_of_their_own_are_read_by_their_links(tmp_path):
    """In a cache of blobs only the links have the names of the manifest."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "models" / "pixels").mkdir(parents=True)
    for number, file in enumerate((MODELS / "pixels").iterdir()):
        shutil.copy(file, tmp_path / "blobs" / str(number))
        (tmp_path / "models" / "pixels" / file.name).symlink_to(tmp_path / "blobs" / str(number))
    (found,) = Repository(tmp_path / "models").scan().model_versions

    assert (tmp_path / "models" / "pixels").resolve() == found.content_directory()


def test_directory_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    """A directory of another user is no model that was removed."""
    make(tmp_path / "faces")
    (tmp_path / "lost+found").mkdir()
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    scan = Repository(tmp_path).scan()

    assert (tmp_path / "lost+found",) == scan.unreadable
    assert ["faces"] == [each.name for each in scan.model_versions]
