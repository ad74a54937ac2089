"""Which settings a model's backends get."""

import pytest

from stylewire.demo import MODELS
from stylewire.manifest import Manifest
from stylewire.server.config.settings import Settings
from stylewire.server.engine.models.model import Model
from stylewire.server.telemetry.metrics import Metrics


@pytest.mark.parametrize(
    ("resolution_px", "settings", "expected"),
    [
        (1024, {"threads": 2}, 1),
        (1024, {"threads": 4}, 1),
        (1024, {"threads": 8}, 0),
        (1024, {"threads": 2, "instances": 2}, 2),
        (1024, {"threads": 2, "device": "cuda:0"}, 0),
        (512, {"threads": 2}, 0),
    ],
)
def test_large_pictures_are_drawn_one_at_a_time_on_few_cores(tmp_path, resolution_px, settings, expected):
    """A run of 1024 px takes 2.2 GB; only whoever asks for several, or has the cores, gets them. 0 leaves it open."""
    Manifest.read(MODELS / "avatars").model_copy(update={"resolution_px": resolution_px}).write(tmp_path)
    model = Model(tmp_path, Settings(**settings), Metrics())

    assert expected == model._options.instances
