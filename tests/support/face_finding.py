"""What finds faces, for tests that need the real thing."""

import pytest

from stylewire.server.front.preprocessing import face_detectors


def needs(*arts: face_detectors.Art) -> pytest.MarkDecorator:
    """Skip with the reason where faces of some kind cannot be found."""
    reasons = [reason for art in arts if (reason := face_detectors.missing(art, None))]
    return pytest.mark.skipif(bool(reasons), reason="; ".join(reasons))
