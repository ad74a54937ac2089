"""Which models are loaded at the start, and how changes of the folder are followed; without a server."""

import logging
import os
from pathlib import Path

import pytest

from stylewire.errors import ModelNotFoundError, ModelNotReadyError
from stylewire.manifest import ManifestError
from stylewire.server.engine_api.catalog import Catalog
from stylewire.server.engine_api.models import State
from support.folders import BREAKS, digest, in_harness, put, remove

# --- the start -------------------------------------------------------------------------------------------------------


def test_newest_version_is_served(folder, faces):
    """Of several versions the newest is loaded, by the setting more of them."""
    put(faces[1], folder / "faces" / "10")
    put(faces[2], folder / "faces" / "9")

    async def test(harness):
        served.append(list(harness.served))

    served = []
    in_harness(test, folder)
    in_harness(test, folder, model_versions=2)

    assert [["faces@10"], ["faces@9", "faces@10"]] == served


def test_names_lead_to_versions(folder, faces):
    """A name alone is the newest version; with a version it is that one; without a name, the default."""
    put(faces[1], folder / "faces" / "2")

    async def test(harness):
        names = ("", "faces", "faces@2", "faces@1")

        assert ["2", "2", "2", "1"] == [harness.registry.catalog.find(name).info.version for name in names]

    in_harness(test, folder, model_versions=2)


@pytest.mark.parametrize(
    "name",
    ["face", "faces@", "faces@3", "@1", "@", "faces@1@1", "faces@../1", "../faces", "faces/1", "faces\0", "f\u0430ces"],
)
def test_unknown_name_is_not_found(folder, name):
    """Names of callers are looked up and no paths are made of them."""

    async def test(harness):
        with pytest.raises(ModelNotFoundError) as caught:
            harness.registry.catalog.find(name)

        assert ("stylewire.Model", name) == caught.value.resource

    in_harness(test, folder)


@pytest.mark.parametrize("how", list(BREAKS))
def test_broken_newest_version_ends_the_start(folder, faces, how):
    """A server does not start with less than it should serve."""
    BREAKS[how](put(faces[1], folder / "faces" / "2"))

    with pytest.raises(Exception, match=r"synthesis|mapping|model\.json"):
        in_harness(None, folder)


def test_broken_old_version_is_left_alone(folder, faces):
    """What would not be served needs not be good."""
    put(faces[1], folder / "faces" / "2")
    BREAKS["manifest"](folder / "faces" / "1")

    async def test(harness):
        assert ["faces@2"] == list(harness.served)

    in_harness(test, folder)


def test_default_that_is_not_there_is_refused(folder):
    """A default version that is not served is as wrong as a default model that is not there."""
    with pytest.raises(ManifestError, match=r"--default-model 'faces@2' is not among the models faces"):
        in_harness(None, folder, default_model="faces@2")


# --- changes of the folder -------------------------------------------------------------------------------------------


def test_changes_are_followed_after_two_looks(folder, faces):
    """New, changed and removed directories are loaded, replaced and retired when two looks saw the same."""

    async def test(harness):
        for content, version in ((1, "2"), (2, "2")):
            before = harness.served
            put(faces[content], folder / "faces" / version)
            await harness.look(1)
            assert before == harness.served
            await harness.look(1)
            assert {"faces@2": digest(faces[content])} == harness.served
        remove(folder / "faces" / "2")
        await harness.look(1)
        assert ["faces@2"] == list(harness.served)
        await harness.look(1)

        assert {"faces@1": digest(faces[0])} == harness.served

    in_harness(test, folder)


def test_new_model_is_no_default(folder, small_models):
    """A model that appears is served beside the others, and the default stays what it was at the start."""
    put(small_models / "classes", folder / "classes")
    remove(folder / "classes")

    async def test(harness):
        put(small_models / "classes", folder / "classes")
        await harness.look()

        assert ["classes", "faces@1"] == list(harness.served)
        assert "faces" == harness.registry.catalog.find("").info.name

    in_harness(test, folder)


@pytest.mark.parametrize("how", list(BREAKS))
@pytest.mark.parametrize("version", ["1", "2"])
def test_broken_content_leaves_the_old_one_serving(folder, faces, how, version, caplog):
    """Whatever is wrong with a new version, or with new content of the old one: what served serves on, and it is logged
    once; when it is mended it is loaded.
    """

    async def test(harness):
        old, served = harness.model("faces"), harness.served
        BREAKS[how](put(faces[1], folder / "faces" / version))
        await harness.look(5)
        assert served == harness.served
        assert old is harness.model("faces")
        assert State.READY is old.state
        assert 1 == len([record for record in caplog.records if record.levelno == logging.ERROR])
        assert 1 == harness.sample("stylewire_model_loads_total", model="faces", result="failed")
        assert 1 == harness.sample("stylewire_model_state", version=version, state="failed")
        put(faces[1], folder / "faces" / version)
        await harness.look()

        assert {f"faces@{version}": digest(faces[1])} == harness.served
        assert 0 == harness.sample("stylewire_model_state", version=version, state="failed")

    in_harness(test, folder)


def test_failed_content_is_tried_again_ever_more_rarely(folder, faces):
    """The reason may have been another one than the content, so it is tried again after 1, 2, 4 ... minutes."""

    async def test(harness):
        BREAKS["digest"](put(faces[1], folder / "faces" / "2"))
        tries = []
        for seconds in (0, 59, 2, 118, 4):
            harness.clock.now += seconds
            await harness.look()
            tries.append(harness.sample("stylewire_model_loads_total", model="faces", result="failed"))

        assert [1, 1, 2, 2, 3] == tries

    in_harness(test, folder)


def test_growing_copy_is_not_tried(folder, faces):
    """A directory that changes from look to look is being copied: nothing is loaded, nothing is complained about."""

    async def test(harness):
        target = folder / "faces" / "2"
        target.mkdir()
        for file in sorted(faces[1].iterdir(), key=lambda file: file.name != "model.json"):
            (target / file.name).write_bytes(file.read_bytes())
            await harness.look(1)
        assert not harness.sample("stylewire_model_loads_total", model="faces", result="failed")
        await harness.look(1)

        assert ["faces@2"] == list(harness.served)

    in_harness(test, folder)


def test_vanished_folder_unloads_nothing(folder, caplog):
    """A folder that is away, empty or not to be read is an accident, logged once."""

    async def test(harness):
        served = harness.served
        folder.rename(folder.parent / "away")
        await harness.look(3)
        folder.mkdir()
        await harness.look(3)

        assert served == harness.served
        assert 1 == len([record for record in caplog.records if "holds no model any more" in record.message])

    in_harness(test, folder)


def test_directory_that_cannot_be_read_unloads_nothing(folder, small_models, monkeypatch):
    """What cannot be looked into is not gone."""
    put(small_models / "plain", folder / "plain")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "faces":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    async def test(harness):
        served = harness.served
        monkeypatch.setattr("os.scandir", refuse)
        await harness.look(5)

        assert served == harness.served

    in_harness(test, folder)


def test_removed_model_stays_if_its_successor_is_broken(folder, faces):
    """The old version's directory is gone and the new one cannot be loaded: the old one serves from memory."""

    async def test(harness):
        BREAKS["digest"](put(faces[1], folder / "faces" / "2"))
        remove(folder / "faces" / "1")
        await harness.look(4)

        assert {"faces@1": digest(faces[0])} == harness.served

    in_harness(test, folder)


def test_volume_of_kubernetes_is_followed(tmp_path, faces):
    """The change of the link ..data is a change of the model, and each content is read from its own directory."""
    volume = tmp_path / "faces"
    for content, stamp in ((faces[0], "..1"), (faces[1], "..2")):
        put(content, volume / stamp)
    (volume / "..data").symlink_to("..1")
    for file in faces[0].iterdir():
        (volume / file.name).symlink_to(f"..data/{file.name}")

    async def test(harness):
        (volume / "..new").symlink_to("..2")
        (volume / "..new").rename(volume / "..data")
        await harness.look()

        assert {"faces": digest(faces[1])} == harness.served

    in_harness(test, tmp_path)


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_empty_table_has_no_default():
    """Before anything is loaded nothing is found."""
    with pytest.raises(ModelNotReadyError):
        Catalog(()).find("")
