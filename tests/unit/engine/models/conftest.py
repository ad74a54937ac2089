"""What the tests of models share."""

from pathlib import Path

import pytest

from support.folders import put


@pytest.fixture
def folder(tmp_path, faces) -> Path:
    """A folder with version 1 of ``faces``."""
    put(faces[0], tmp_path / "faces" / "1")
    return tmp_path
