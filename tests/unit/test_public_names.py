import subprocess
import sys

import pytest

import stylewire
from stylewire.status import BY_REASON

PUBLIC = [
    "AsyncClient",
    "AsyncVideo",
    "BackendUnavailableError",
    "Client",
    "DeadlineError",
    "DrainingError",
    "Face",
    "Frame",
    "InternalError",
    "InvalidFieldError",
    "Inversion",
    "ModelLoadError",
    "ModelNotFoundError",
    "ModelNotReadyError",
    "NoFaceError",
    "OverloadedError",
    "PermissionDeniedError",
    "Picture",
    "Projection",
    "ProjectionProgress",
    "RateLimitedError",
    "Result",
    "RetryableError",
    "Security",
    "StylewireError",
    "Timing",
    "UnauthenticatedError",
    "UnreachableError",
    "UnsupportedError",
    "Video",
    "Violation",
    "layers",
    "load_code",
    "load_codes",
    "noise",
    "photo",
    "resolutions",
    "save_code",
    "seed",
    "style",
    "w",
    "w_plus",
    "z",
]


def test_public_names_are_these():
    """A name is public because somebody decided so, and stays until somebody decides otherwise."""
    assert PUBLIC == stylewire.__all__
    assert all(hasattr(stylewire, name) for name in PUBLIC)


def test_every_error_of_the_table_is_public():
    """Whatever the server can raise can be caught by its name."""
    errors = {cls.__name__ for cls in BY_REASON.values()}

    assert set() == errors - set(PUBLIC)


def test_import_brings_no_command_line_no_pillow_no_server():
    """The package imports neither the command line, nor Pillow, nor anything of an extra."""
    heavy = "{'typer', 'rich', 'PIL', 'pydantic', 'onnxruntime', 'torch', 'prometheus_client'}"
    script = f"import sys, stylewire; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "[]" == done.stdout.strip()


def test_names_are_listed_before_they_are_imported():
    """Completion shows the public names though the package imports them only when they are used."""
    script = "import sys, stylewire; print(set(stylewire.__all__) <= set(dir(stylewire)), 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert "True False" == done.stdout.strip()


def test_unknown_name_is_an_attribute_error():
    """A name that the package does not have is refused as by any module."""
    with pytest.raises(AttributeError, match="no attribute 'clients'"):
        _ = stylewire.clients
