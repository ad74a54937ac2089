"""Programs that check our files independently, where a machine has them."""

import shutil

import pytest

needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="exiftool is absent; it is in Debian's libimage-exiftool-perl"
)
