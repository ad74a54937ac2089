"""Which models are loaded, and what becomes of those that are not wanted any more; without a server."""

import asyncio
import gc
import logging
import os
import weakref
from pathlib import Path

import numpy as np
import pytest

from stylewire.errors import ModelLoadError, ModelNotFoundError, ModelNotReadyError, RetryableError
from stylewire.manifest import Manifest, ManifestError
from stylewire.server.engine_api.catalog import Catalog
from stylewire.server.engine_api.models import State
from support.folders import BREAKS, on_desk, put, remove
from support.gates import HeldLoads


def digest(directory: Path) -> str:
    return Manifest.read(directory).digest()


@pytest.fixture
def folder(tmp_path, faces) -> Path:
    """A folder with version 1 of ``faces``."""
    put(faces[0], tmp_path / "faces" / "1")
    return tmp_path


# --- the start -------------------------------------------------------------------------------------------------------


def test_newest_version_is_served(folder, faces):
    """Of several versions the newest is loaded, by the setting more of them."""
    put(faces[1], folder / "faces" / "10")
    put(faces[2], folder / "faces" / "9")

    async def test(desk):
        served.append(list(desk.served))

    served = []
    on_desk(test, folder)
    on_desk(test, folder, model_versions=2)

    assert [["faces@10"], ["faces@9", "faces@10"]] == served


def test_names_lead_to_versions(folder, faces):
    """A name alone is the newest version; with a version it is that one; without a name, the default."""
    put(faces[1], folder / "faces" / "2")

    async def test(desk):
        names = ("", "faces", "faces@2", "faces@1")

        assert ["2", "2", "2", "1"] == [desk.registry.catalog.find(name).info.version for name in names]

    on_desk(test, folder, model_versions=2)


@pytest.mark.parametrize(
    "name",
    ["face", "faces@", "faces@3", "@1", "@", "faces@1@1", "faces@../1", "../faces", "faces/1", "faces\0", "f\u0430ces"],
)
def test_unknown_name_is_not_found(folder, name):
    """Names of callers are looked up and no paths are made of them."""

    async def test(desk):
        with pytest.raises(ModelNotFoundError) as caught:
            desk.registry.catalog.find(name)

        assert ("stylewire.Model", name) == caught.value.resource

    on_desk(test, folder)


@pytest.mark.parametrize("how", list(BREAKS))
def test_broken_newest_version_ends_the_start(folder, faces, how):
    """A server does not start with less than it should serve."""
    BREAKS[how](put(faces[1], folder / "faces" / "2"))

    with pytest.raises(Exception, match=r"synthesis|mapping|model\.json"):
        on_desk(None, folder)


def test_broken_old_version_is_left_alone(folder, faces):
    """What would not be served needs not be good."""
    put(faces[1], folder / "faces" / "2")
    BREAKS["manifest"](folder / "faces" / "1")

    async def test(desk):
        assert ["faces@2"] == list(desk.served)

    on_desk(test, folder)


def test_default_that_is_not_there_is_refused(folder):
    """A default version that is not served is as wrong as a default model that is not there."""
    with pytest.raises(ManifestError, match=r"--default-model 'faces@2' is not among the models faces"):
        on_desk(None, folder, default_model="faces@2")


# --- changes of the folder -------------------------------------------------------------------------------------------


def test_changes_are_followed_after_two_looks(folder, faces):
    """New, changed and removed directories are loaded, replaced and retired when two looks saw the same."""

    async def test(desk):
        for content, version in ((1, "2"), (2, "2")):
            before = desk.served
            put(faces[content], folder / "faces" / version)
            await desk.look(1)
            assert before == desk.served
            await desk.look(1)
            assert {"faces@2": digest(faces[content])} == desk.served
        remove(folder / "faces" / "2")
        await desk.look(1)
        assert ["faces@2"] == list(desk.served)
        await desk.look(1)

        assert {"faces@1": digest(faces[0])} == desk.served

    on_desk(test, folder)


def test_new_model_is_no_default(folder, small_models):
    """A model that appears is served beside the others, and the default stays what it was at the start."""
    put(small_models / "classes", folder / "classes")
    remove(folder / "classes")

    async def test(desk):
        put(small_models / "classes", folder / "classes")
        await desk.look()

        assert ["classes", "faces@1"] == list(desk.served)
        assert "faces" == desk.registry.catalog.find("").info.name

    on_desk(test, folder)


@pytest.mark.parametrize("how", list(BREAKS))
@pytest.mark.parametrize("version", ["1", "2"])
def test_broken_content_leaves_the_old_one_serving(folder, faces, how, version, caplog):
    """Whatever is wrong with a new version, or with new content of the old one: what served serves on, and it is logged
    once; when it is mended it is loaded.
    """

    async def test(desk):
        old, served = desk.model("faces"), desk.served
        BREAKS[how](put(faces[1], folder / "faces" / version))
        await desk.look(5)
        assert served == desk.served
        assert old is desk.model("faces")
        assert State.READY is old.state
        assert 1 == len([record for record in caplog.records if record.levelno == logging.ERROR])
        assert 1 == desk.sample("stylewire_model_loads_total", model="faces", result="failed")
        assert 1 == desk.sample("stylewire_model_state", version=version, state="failed")
        put(faces[1], folder / "faces" / version)
        await desk.look()

        assert {f"faces@{version}": digest(faces[1])} == desk.served
        assert 0 == desk.sample("stylewire_model_state", version=version, state="failed")

    on_desk(test, folder)


def test_failed_content_is_tried_again_ever_more_rarely(folder, faces):
    """The reason may have been another one than the content, so it is tried again after 1, 2, 4 ... minutes."""

    async def test(desk):
        BREAKS["digest"](put(faces[1], folder / "faces" / "2"))
        tries = []
        for seconds in (0, 59, 2, 118, 4):
            desk.clock.now += seconds
            await desk.look()
            tries.append(desk.sample("stylewire_model_loads_total", model="faces", result="failed"))

        assert [1, 1, 2, 2, 3] == tries

    on_desk(test, folder)


def test_growing_copy_is_not_tried(folder, faces):
    """A directory that changes from look to look is being copied: nothing is loaded, nothing is complained about."""

    async def test(desk):
        target = folder / "faces" / "2"
        target.mkdir()
        for file in sorted(faces[1].iterdir(), key=lambda file: file.name != "model.json"):
            (target / file.name).write_bytes(file.read_bytes())
            await desk.look(1)
        assert not desk.sample("stylewire_model_loads_total", model="faces", result="failed")
        await desk.look(1)

        assert ["faces@2"] == list(desk.served)

    on_desk(test, folder)


def test_vanished_folder_unloads_nothing(folder, caplog):
    """A folder that is away, empty or not to be read is an accident, logged once."""

    async def test(desk):
        served = desk.served
        folder.rename(folder.parent / "away")
        await desk.look(3)
        folder.mkdir()
        await desk.look(3)

        assert served == desk.served
        assert 1 == len([record for record in caplog.records if "holds no model any more" in record.message])

    on_desk(test, folder)


def test_directory_that_cannot_be_read_unloads_nothing(folder, small_models, monkeypatch):
    """What cannot be looked into is not gone."""
    put(small_models / "plain", folder / "plain")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "faces":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    async def test(desk):
        served = desk.served
        monkeypatch.setattr("os.scandir", refuse)
        await desk.look(5)

        assert served == desk.served

    on_desk(test, folder)


def test_removed_model_stays_if_its_successor_is_broken(folder, faces):
    """The old version's directory is gone and the new one cannot be loaded: the old one serves from memory."""

    async def test(desk):
        BREAKS["digest"](put(faces[1], folder / "faces" / "2"))
        remove(folder / "faces" / "1")
        await desk.look(4)

        assert {"faces@1": digest(faces[0])} == desk.served

    on_desk(test, folder)


def test_volume_of_kubernetes_is_followed(tmp_path, faces):
    """The change of the link ..data is a change of the model, and each content is read from its own directory."""
    volume = tmp_path / "faces"
    for content, stamp in ((faces[0], "..1"), (faces[1], "..2")):
        put(content, volume / stamp)
    (volume / "..data").symlink_to("..1")
    for file in faces[0].iterdir():
        (volume / file.name).symlink_to(f"..data/{file.name}")

    async def test(desk):
        (volume / "..new").symlink_to("..2")
        (volume / "..new").rename(volume / "..data")
        await desk.look()

        assert {"faces": digest(faces[1])} == desk.served

    on_desk(test, tmp_path)


# --- what administrators ask for -------------------------------------------------------------------------------------


def test_loaded_version_stays_beside_newer_ones(folder, faces):
    """A version that is asked for is served too, until it is unloaded, and the name means the newest all the same."""
    put(faces[1], folder / "faces" / "2")

    async def test(desk):
        await desk.operations.load("faces", "1")
        put(faces[2], folder / "faces" / "3")
        await desk.look()
        assert ["faces@1", "faces@3"] == list(desk.served)
        assert "3" == desk.registry.catalog.find("faces").info.version
        await desk.operations.unload("faces", "1")
        await desk.look()

        assert ["faces@3"] == list(desk.served)

    on_desk(test, folder)


def test_load_without_version_takes_the_newest(folder, faces):
    """The newest directory replaces the version that served; asked again, nothing happens."""

    async def test(desk):
        put(faces[1], folder / "faces" / "2")
        first = await desk.operations.load("faces", "")
        second = await desk.operations.load("faces", "")

        assert {"faces@2": digest(faces[1])} == desk.served
        assert first is second

    on_desk(test, folder)


def test_reload_replaces_what_is_unchanged(folder):
    """Another object with the same content answers; the old one is closed."""

    async def test(desk):
        old = desk.model("faces")
        status = await desk.operations.reload("faces", "")
        await desk.closed()
        new = desk.model("faces")

        assert old is not new
        assert new.status is status
        assert (old.info.digest, State.CLOSED, State.READY) == (new.info.digest, old.state, new.state)

    on_desk(test, folder)


def test_unloaded_model_does_not_come_back_by_itself(folder, faces):
    """What was unloaded stays so while it is unchanged; a change or a wish brings it back."""

    async def test(desk):
        await desk.operations.unload("faces", "")
        await desk.look(3)
        assert {} == desk.served
        with pytest.raises(ModelNotReadyError, match="the default model 'faces' is not loaded"):
            desk.registry.catalog.find("")
        with pytest.raises(ModelNotFoundError, match="this server has none"):
            desk.registry.catalog.find("faces")
        put(faces[1], folder / "faces" / "1")
        await desk.look()
        assert {"faces@1": digest(faces[1])} == desk.served
        await desk.operations.unload("faces", "1")
        await desk.operations.load("faces", "")

        assert {"faces@1": digest(faces[1])} == desk.served

    on_desk(test, folder)


@pytest.mark.parametrize("name", ["", "cats", "../faces", "faces@1", "faces/1", ".", "faces\0", "\N{SNOWMAN}" * 999])
@pytest.mark.parametrize("operation", ["load", "unload", "reload"])
def test_operation_on_a_stranger_is_not_found(folder, operation, name):
    """Names and versions are compared with what is there; no path is made of them."""

    async def test(desk):
        for given in ((name, ""), ("faces", name or "2")):
            with pytest.raises(ModelNotFoundError):
                await getattr(desk.operations, operation)(*given)

        assert ["faces@1"] == list(desk.served)

    on_desk(test, folder)


@pytest.mark.parametrize("how", list(BREAKS))
def test_operation_that_fails_says_why_without_paths(folder, faces, how):
    """Whoever asks learns what is wrong, and nothing of the machine; what served serves on."""

    async def test(desk):
        served = desk.served
        BREAKS[how](put(faces[1], folder / "faces" / "2"))
        with pytest.raises(ModelLoadError, match=r"^faces@2 cannot be loaded: ") as caught:
            await desk.operations.load("faces", "2")

        assert str(folder) not in caught.value.message
        assert " /" not in caught.value.message
        assert "'/" not in caught.value.message
        assert served == desk.served

    on_desk(test, folder)


def test_reload_without_directory_fails(folder, small_models):
    """What is only in memory cannot be read again, and serves on."""
    put(small_models / "plain", folder / "plain")

    async def test(desk):
        remove(folder / "faces" / "1")
        with pytest.raises(ModelLoadError, match="its directory is gone"):
            await desk.operations.reload("faces", "")

        assert ["faces@1", "plain"] == list(desk.served)

    on_desk(test, folder)


def test_one_operation_at_a_time(folder):
    """While a model is loaded another wish is refused with a time to come back, and the state is shown."""
    slow = HeldLoads()
    slow.go.set()

    async def test(desk):
        slow.hold()
        task = asyncio.ensure_future(desk.operations.reload("faces", ""))
        await asyncio.to_thread(slow.begun.wait, 30)
        states = [desk.sample("stylewire_model_state", model="faces", state=each) for each in ("ready", "loading")]
        with pytest.raises(RetryableError, match="another model is being loaded") as caught:
            await desk.operations.unload("faces", "")
        await desk.look()
        slow.go.set()
        await task

        assert 1.0 == caught.value.retry_after_seconds
        assert [1, 1] == states

    on_desk(test, folder, make_loader=slow)


def test_operation_goes_on_when_its_caller_leaves(folder):
    """An administrator who hangs up does not leave a model half loaded."""
    slow = HeldLoads()
    slow.go.set()

    async def test(desk):
        slow.hold()
        old = desk.registry.catalog.find("faces").info
        task = asyncio.ensure_future(desk.operations.reload("faces", ""))
        await asyncio.to_thread(slow.begun.wait, 30)
        task.cancel()
        slow.go.set()
        async with asyncio.timeout(30):
            while desk.registry.catalog.find("faces").info is old:  # noqa: ASYNC110 - it has no event for this
                await asyncio.sleep(0.001)

        assert task.cancelled()

    on_desk(test, folder, make_loader=slow)


def test_end_does_not_wait_for_a_load(folder):
    """A server that stops while a model is loaded opens no further graph of it."""
    slow = HeldLoads()
    slow.go.set()

    async def test(desk):
        slow.hold()
        task = asyncio.ensure_future(desk.operations.reload("faces", ""))
        await asyncio.to_thread(slow.begun.wait, 30)
        await asyncio.wait_for(desk.lifecycle.close(), 30)
        slow.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    on_desk(test, folder, make_loader=slow)


# --- leases ----------------------------------------------------------------------------------------------------------


async def run_mapping(model) -> np.ndarray:
    result = await model.runner("mapping").submit({"z": np.zeros((1, 16), np.float32)}, ("w",))
    return result.outputs["w"]


def test_leased_model_answers_until_its_call_ends(folder):
    """A call that has found its model may run it however often, though it was replaced meanwhile; then it is closed."""

    async def test(desk):
        with desk.registry.lease() as models:
            old = desk.registry.model(models.get("faces"))
            await run_mapping(old)
            await desk.operations.reload("faces", "")
            assert old is desk.registry.model(models.get("faces@1"))
            assert 1 == desk.sample("stylewire_model_state", state="retiring")
            await run_mapping(old)
            assert State.RETIRING is old.state
        await desk.closed()

        assert State.CLOSED is old.state
        assert (1, 0) == tuple(desk.sample("stylewire_model_state", state=each) for each in ("ready", "retiring"))
        await run_mapping(desk.model("faces"))

    on_desk(test, folder)


def test_model_is_closed_when_the_last_of_its_calls_ends(folder):
    """Several leases, and several gets of one, count as they should."""

    async def test(desk):
        old = desk.model("faces")
        with desk.registry.lease() as one:
            with desk.registry.lease() as other:
                assert old.info is one.get("") is one.get("faces") is other.get("faces@1")
                await desk.operations.reload("faces", "")
            await asyncio.sleep(0)
            assert [old] == desk.registry.retiring
        await desk.closed()

        assert 0 == old.usage.count

    on_desk(test, folder)


def test_lease_of_another_model_holds_nothing_up(folder, small_models):
    """A long call keeps the models that it uses, not those that it could have used."""
    put(small_models / "plain", folder / "plain")

    async def test(desk):
        with desk.registry.lease() as models:
            models.get("plain")
            old = desk.model("faces")
            await desk.operations.reload("faces", "")
            await desk.closed()
            assert State.CLOSED is old.state
            late = desk.registry.model(models.get("faces"))

            assert State.READY is late.state
            assert 1 == late.usage.count

    on_desk(test, folder)


def test_reader_of_a_call_that_left_holds_nothing(folder):
    """A thread may still read a request whose caller has gone: what it finds then is not counted."""

    async def test(desk):
        with desk.registry.lease() as models:
            pass

        assert 0 == desk.registry.model(models.get("faces")).usage.count

    on_desk(test, folder)


def test_long_use_is_logged_and_not_cut(folder, caplog):
    """A call that takes longer than the grace time keeps its model."""

    async def test(desk):
        with desk.registry.lease() as models:
            old = desk.registry.model(models.get("faces"))
            await desk.operations.reload("faces", "")
            async with asyncio.timeout(30):
                while "1 calls still use it" not in caplog.text:  # noqa: ASYNC110 - nor for this
                    await asyncio.sleep(0.001)
            await run_mapping(old)
            assert State.RETIRING is old.state
        await desk.closed()

    on_desk(test, folder, grace_seconds=0.01)


def test_closed_model_is_freed(folder):
    """Nothing holds a model that was replaced: garbage that was frozen at the start is never collected."""

    async def test(desk):
        gc.collect()
        gc.disable()
        old = weakref.ref(desk.model("faces"))
        await run_mapping(old())
        await desk.operations.reload("faces", "")
        await desk.closed()
        await asyncio.sleep(0)

        assert old() is None

    try:
        on_desk(test, folder)
    finally:
        gc.enable()


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_of_a_model_go_with_its_last_version(folder, faces, small_models):
    """Counters stay while any version lives; with the last one every label set of the model goes."""
    put(faces[1], folder / "faces" / "2")
    put(small_models / "plain", folder / "plain")

    async def test(desk):
        await run_mapping(desk.model("faces"))
        await desk.operations.unload("faces", "2")
        await desk.closed()
        assert 1 == desk.sample("stylewire_batch_size_count", model="faces", graph="mapping")
        assert desk.sample("stylewire_model_info", version="2") is None
        assert desk.sample("stylewire_model_resident_bytes", version="2") is None
        assert 0 == desk.sample("stylewire_waiting_rows", model="faces", graph="synthesis")
        await desk.operations.unload("faces", "")
        await desk.closed()

        assert {"plain"} == desk.shown()

    on_desk(test, folder, model_versions=2)


def test_reload_keeps_what_was_counted(folder):
    """A model that is replaced by itself shows each label set once, with its counts."""

    async def test(desk):
        for _ in range(3):
            await run_mapping(desk.model("faces"))
            await desk.operations.reload("faces", "")
            await desk.closed()

        assert 3 == desk.sample("stylewire_batch_size_count", model="faces", graph="mapping")
        assert 1 == desk.sample("stylewire_model_info", model="faces", version="1")
        assert 4 == desk.sample("stylewire_model_loads_total", model="faces", result="ok")

    on_desk(test, folder)


def test_failed_model_leaves_the_metrics_with_its_directory(folder, faces):
    """A directory that was never loaded is shown as failed while it is there."""

    async def test(desk):
        BREAKS["manifest"](put(faces[1], folder / "cats"))
        await desk.look()
        assert {"faces", "cats"} == desk.shown()
        remove(folder / "cats")
        await desk.look()

        assert {"faces"} == desk.shown()

    on_desk(test, folder)


def test_empty_table_has_no_default():
    """Before anything is loaded nothing is found."""
    with pytest.raises(ModelNotReadyError):
        Catalog(()).find("")
