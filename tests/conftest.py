"""Fixtures that every folder of tests shares."""

from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def golden() -> Path:
    """Checkpoints and outputs of the original implementations; the definition of correct."""
    path = PROJECT.parent / "shared" / "golden" / "public"
    if not path.is_dir():
        pytest.skip("no golden data: ../shared/golden/public is absent on this machine")
    return path
