"""What becomes of models that are not wanted any more, and of their metrics; without a server."""

import asyncio
import gc
import weakref

from stylewire.server.engine_api.models import State
from support.folders import BREAKS, in_harness, put, remove, run_mapping

# --- leases ----------------------------------------------------------------------------------------------------------


def test_leased_model_answers_until_its_call_ends(folder):
    """A call that has found its model may run it however often, though it was replaced meanwhile; then it is closed."""

    async def test(harness):
        with harness.registry.lease() as models:
            old = harness.registry.model(models.get("faces"))
            await run_mapping(old)
            await harness.operations.reload("faces", "")
            assert old is harness.registry.model(models.get("faces@1"))
            assert 1 == harness.sample("stylewire_model_state", state="retiring")
            await run_mapping(old)
            assert State.RETIRING is old.state
        await harness.closed()

        assert State.CLOSED is old.state
        assert (1, 0) == tuple(harness.sample("stylewire_model_state", state=each) for each in ("ready", "retiring"))
        await run_mapping(harness.model("faces"))

    in_harness(test, folder)


def test_model_is_closed_when_the_last_of_its_calls_ends(folder):
    """Several leases, and several gets of one, count as they should."""

    async def test(harness):
        old = harness.model("faces")
        with harness.registry.lease() as one:
            with harness.registry.lease() as other:
                assert old.info is one.get("") is one.get("faces") is other.get("faces@1")
                await harness.operations.reload("faces", "")
            await asyncio.sleep(0)
            assert [old] == harness.registry.retiring
        await harness.closed()

        assert 0 == old.usage.count

    in_harness(test, folder)


def test_lease_of_another_model_holds_nothing_up(folder, small_models):
    """A long call keeps the models that it uses, not those that it could have used."""
    put(small_models / "plain", folder / "plain")

    async def test(harness):
        with harness.registry.lease() as models:
            models.get("plain")
            old = harness.model("faces")
            await harness.operations.reload("faces", "")
            await harness.closed()
            assert State.CLOSED is old.state
            late = harness.registry.model(models.get("faces"))

            assert State.READY is late.state
            assert 1 == late.usage.count

    in_harness(test, folder)


def test_reader_of_a_call_that_left_holds_nothing(folder):
    """A thread may still read a request whose caller has gone: what it finds then is not counted."""

    async def test(harness):
        with harness.registry.lease() as models:
            pass

        assert 0 == harness.registry.model(models.get("faces")).usage.count

    in_harness(test, folder)


def test_long_use_is_logged_and_not_cut(folder, caplog):
    """A call that takes longer than the grace time keeps its model."""

    async def test(harness):
        with harness.registry.lease() as models:
            old = harness.registry.model(models.get("faces"))
            await harness.operations.reload("faces", "")
            async with asyncio.timeout(30):
                while "1 calls still use it" not in caplog.text:  # noqa: ASYNC110 - nor for this
                    await asyncio.sleep(0.001)
            await run_mapping(old)
            assert State.RETIRING is old.state
        await harness.closed()

    in_harness(test, folder, grace_seconds=0.01)


def test_closed_model_is_freed(folder):
    """Nothing holds a model that was replaced: garbage that was frozen at the start is never collected."""

    async def test(harness):
        gc.collect()
        gc.disable()
        old = weakref.ref(harness.model("faces"))
        await run_mapping(old())
        await harness.operations.reload("faces", "")
        await harness.closed()
        async with asyncio.timeout(30):
            while old():  # noqa: ASYNC110 - the thread that closed it may hold it for a moment longer
                await asyncio.sleep(0.001)

        assert old() is None

    try:
        in_harness(test, folder)
    finally:
        gc.enable()


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_of_a_model_go_with_its_last_version(folder, faces, small_models):
    """Counters stay while any version lives; with the last one every label set of the model goes."""
    put(faces[1], folder / "faces" / "2")
    put(small_models / "plain", folder / "plain")

    async def test(harness):
        await run_mapping(harness.model("faces"))
        await harness.operations.unload("faces", "2")
        await harness.closed()
        assert 1 == harness.sample("stylewire_batch_size_count", model="faces", graph="mapping")
        assert harness.sample("stylewire_model_info", version="2") is None
        assert harness.sample("stylewire_model_resident_bytes", version="2") is None
        assert 0 == harness.sample("stylewire_waiting_rows", model="faces", graph="synthesis")
        await harness.operations.unload("faces", "")
        await harness.closed()

        assert {"plain"} == harness.shown()

    in_harness(test, folder, model_versions=2)


def test_reload_keeps_what_was_counted(folder):
    """A model that is replaced by itself shows each label set once, with its counts."""

    async def test(harness):
        for _ in range(3):
            await run_mapping(harness.model("faces"))
            await harness.operations.reload("faces", "")
            await harness.closed()

        assert 3 == harness.sample("stylewire_batch_size_count", model="faces", graph="mapping")
        assert 1 == harness.sample("stylewire_model_info", model="faces", version="1")
        assert 4 == harness.sample("stylewire_model_loads_total", model="faces", result="ok")

    in_harness(test, folder)


def test_failed_model_leaves_the_metrics_with_its_directory(folder, faces):
    """A directory that was never loaded is shown as failed while it is there."""

    async def test(harness):
        BREAKS["manifest"](put(faces[1], folder / "cats"))
        await harness.look()
        assert {"faces", "cats"} == harness.shown()
        remove(folder / "cats")
        await harness.look()

        assert {"faces"} == harness.shown()

    in_harness(test, folder)
