"""Which settings a model's backends get."""

import pytest

from stylewire.server.config.settings import Settings
from stylewire.server.engine.models.loader import backend_options


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
def test_large_pictures_are_drawn_one_at_a_time_on_few_cores(resolution_px, settings, expected):
    """A run of 1024 px takes 2.2 GB; only whoever asks for several, or has the cores, gets them. 0 leaves it open."""
    assert expected == backend_options(Settings(**settings), resolution_px).instances
