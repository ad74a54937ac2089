"""The bench that follows one call through the server."""

from pathlib import Path

import stylewire
from serving import path

ROOT = Path(stylewire.__file__).parent


def test_changes_are_those_from_one_to_the_next():
    """What comes back to a file has changed twice."""
    assert 0 == path.changes([])
    assert 3 == path.changes(["a", "a", "b", "a", "a", "c"])


def test_one_generate_is_followed_from_the_wire_to_the_graph():
    """Files of the front and of the engine are met, each by its place in the package."""
    found = path.measure()
    figures = dict(path.rows(found))

    assert all((ROOT / file).is_file() for file in found.files)
    assert {"front", "engine"} <= {room.split("/")[1] for room in found.rooms if room.startswith("server/")}
    assert "server/engine/backends/onnxruntime" in found.rooms
    assert str(len(set(found.files))) == figures["distinct files"]
    assert int(figures["changes of the room"]) <= int(figures["changes of the file"])
