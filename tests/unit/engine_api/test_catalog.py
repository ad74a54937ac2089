"""How a name finds a model, among those that answer now."""

import pytest

from stylewire.demo import MODELS
from stylewire.errors import ModelNotFoundError, ModelNotReadyError, UnsupportedError
from stylewire.manifest import Manifest
from stylewire.server.engine_api.catalog import Catalog
from stylewire.server.engine_api.models import ModelInfo, ModelStatus, State


def status(name: str, version: str = "", state: State = State.READY) -> ModelStatus:
    manifest = Manifest.read(MODELS / "avatars").model_copy(update={"name": name})
    info = ModelInfo(manifest=manifest, version=version, digest="d", graphs=("mapping", "synthesis"))
    return ModelStatus(info=info, state=state, backend="onnxruntime", device="cpu", precision="fp32")


def test_name_is_the_newest_version_that_is_ready():
    """A version that loads does not hide the one that answers; by its version it is found all the same."""
    old, new = status("faces", "9"), status("faces", "10", State.LOADING)
    catalog = Catalog([new, old])

    assert [old, new] == list(catalog.models)
    assert old is catalog.find("faces")
    assert new is catalog.find("faces@10")
    assert not catalog.ready


def test_version_that_loads_is_found_where_none_is_ready():
    """A call of a model that is not ready is told so, not that there is no such model."""
    loading = status("faces", "1", State.LOADING)

    assert loading is Catalog([loading]).find("faces")


@pytest.mark.parametrize(("default", "found"), [("", "cats"), ("faces", "faces@2"), ("faces@1", "faces@1")])
def test_no_name_is_the_default(default, found):
    """Without a name it is the default: the first by name, a name, or one version of it."""
    catalog = Catalog([status("faces", "1"), status("faces", "2"), status("cats")], default)

    assert found == catalog.find("").info.reference
    assert catalog.find("") is catalog.default


def test_default_that_is_gone_is_not_ready():
    """A default model that was unloaded may come back; another name that is not there will not."""
    catalog = Catalog([status("cats")], "faces")

    with pytest.raises(ModelNotReadyError, match="this server has cats"):
        catalog.find("")
    with pytest.raises(ModelNotFoundError, match="no model 'faces'; this server has cats"):
        catalog.find("faces")


def test_graph_runs_only_while_its_model_answers():
    """A graph of a model that retires still runs for the calls that have it; one that loads or is closed does not."""
    runnable = {state: status("faces", state=state).refusal("mapping") is None for state in State}

    assert {State.READY, State.RETIRING} == {state for state, runs in runnable.items() if runs}
    assert isinstance(status("faces").refusal("encoder"), UnsupportedError)
