"""What administrators ask for: models that are loaded, unloaded and reloaded; without a server."""

import asyncio

import pytest

from stylewire.errors import ModelLoadError, ModelNotFoundError, ModelNotReadyError, RetryableError
from stylewire.server.engine_api.models import State
from support.folders import BREAKS, digest, in_harness, put, remove
from support.gates import HeldLoads


def test_loaded_version_stays_beside_newer_ones(folder, faces):
    """A version that is asked for is served too, until it is unloaded, and the name means the newest all the same."""
    put(faces[1], folder / "faces" / "2")

    async def test(harness):
        await harness.operations.load("faces", "1")
        put(faces[2], folder / "faces" / "3")
        await harness.look()
        assert ["faces@1", "faces@3"] == list(harness.served)
        assert "3" == harness.registry.catalog.find("faces").info.version
        await harness.operations.unload("faces", "1")
        await harness.look()

        assert ["faces@3"] == list(harness.served)

    in_harness(test, folder)


def test_load_without_version_takes_the_newest(folder, faces):
    """The newest directory replaces the version that served; asked again, nothing happens."""

    async def test(harness):
        put(faces[1], folder / "faces" / "2")
        first = await harness.operations.load("faces", "")
        second = await harness.operations.load("faces", "")

        assert {"faces@2": digest(faces[1])} == harness.served
        assert first is second

    in_harness(test, folder)


def test_reload_replaces_what_is_unchanged(folder):
    """Another object with the same content answers; the old one is closed."""

    async def test(harness):
        old = harness.model("faces")
        status = await harness.operations.reload("faces", "")
        await harness.closed()
        new = harness.model("faces")

        assert old is not new
        assert new.status is status
        assert (old.info.digest, State.CLOSED, State.READY) == (new.info.digest, old.state, new.state)

    in_harness(test, folder)


def test_unloaded_model_does_not_come_back_by_itself(folder, faces):
    """What was unloaded stays so while it is unchanged; a change or a wish brings it back."""

    async def test(harness):
        await harness.operations.unload("faces", "")
        await harness.look(3)
        assert {} == harness.served
        with pytest.raises(ModelNotReadyError, match="the default model 'faces' is not loaded"):
            harness.registry.catalog.find("")
        with pytest.raises(ModelNotFoundError, match="this server has none"):
            harness.registry.catalog.find("faces")
        put(faces[1], folder / "faces" / "1")
        await harness.look()
        assert {"faces@1": digest(faces[1])} == harness.served
        await harness.operations.unload("faces", "1")
        await harness.operations.load("faces", "")

        assert {"faces@1": digest(faces[1])} == harness.served

    in_harness(test, folder)


@pytest.mark.parametrize("name", ["", "cats", "../faces", "faces@1", "faces/1", ".", "faces\0", "\N{SNOWMAN}" * 999])
@pytest.mark.parametrize("operation", ["load", "unload", "reload"])
def test_operation_on_a_stranger_is_not_found(folder, operation, name):
    """Names and versions are compared with what is there; no path is made of them."""

    async def test(harness):
        for given in ((name, ""), ("faces", name or "2")):
            with pytest.raises(ModelNotFoundError):
                await getattr(harness.operations, operation)(*given)

        assert ["faces@1"] == list(harness.served)

    in_harness(test, folder)


@pytest.mark.parametrize("how", list(BREAKS))
def test_operation_that_fails_says_why_without_paths(folder, faces, how):
    """Whoever asks learns what is wrong, and nothing of the machine; what served serves on."""

    async def test(harness):
        served = harness.served
        BREAKS[how](put(faces[1], folder / "faces" / "2"))
        with pytest.raises(ModelLoadError, match=r"^faces@2 cannot be loaded: ") as caught:
            await harness.operations.load("faces", "2")

        assert str(folder) not in caught.value.message
        assert " /" not in caught.value.message
        assert "'/" not in caught.value.message
        assert served == harness.served

    in_harness(test, folder)


def test_reload_without_directory_fails(folder, small_models):
    """What is only in memory cannot be read again, and serves on."""
    put(small_models / "plain", folder / "plain")

    async def test(harness):
        remove(folder / "faces" / "1")
        with pytest.raises(ModelLoadError, match="its directory is gone"):
            await harness.operations.reload("faces", "")

        assert ["faces@1", "plain"] == list(harness.served)

    in_harness(test, folder)


def test_one_operation_at_a_time(folder):
    """While a model is loaded another operation is refused with a time to come back, and the state is shown."""
    slow = HeldLoads()
    slow.go.set()

    async def test(harness):
        slow.hold()
        task = asyncio.ensure_future(harness.operations.reload("faces", ""))
        await asyncio.to_thread(slow.begun.wait, 30)
        states = [harness.sample("stylewire_model_state", model="faces", state=each) for each in ("ready", "loading")]
        with pytest.raises(RetryableError, match="another model is being loaded") as caught:
            await harness.operations.unload("faces", "")
        await harness.look()
        slow.go.set()
        await task

        assert 1.0 == caught.value.retry_after_seconds
        assert [1, 1] == states

    in_harness(test, folder, make_loader=slow)


def test_operation_goes_on_when_its_caller_leaves(folder):
    """An administrator who hangs up does not leave a model half loaded."""
    slow = HeldLoads()
    slow.go.set()

    async def test(harness):
        slow.hold()
        old = harness.registry.catalog.find("faces").info
        task = asyncio.ensure_future(harness.operations.reload("faces", ""))
        await asyncio.to_thread(slow.begun.wait, 30)
        task.cancel()
        slow.go.set()
        async with asyncio.timeout(30):
            while harness.registry.catalog.find("faces").info is old:  # noqa: ASYNC110 - it has no event for this
                await asyncio.sleep(0.001)

        assert task.cancelled()

    in_harness(test, folder, make_loader=slow)


def test_end_does_not_wait_for_a_load(folder):
    """A server that stops while a model is loaded opens no further graph of it."""
    slow = HeldLoads()
    slow.go.set()

    async def test(harness):
        slow.hold()
        task = asyncio.ensure_future(harness.operations.reload("faces", ""))
        await asyncio.to_thread(slow.begun.wait, 30)
        await asyncio.wait_for(harness.lifecycle.close(), 30)
        slow.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_harness(test, folder, make_loader=slow)
