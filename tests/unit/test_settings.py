"""Settings: flag over environment over default; what is unknown is refused with the nearest known name."""

import os

import pytest

from stylewire.server.machine import usable_cores
from stylewire.server.settings import SettingError, Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    """No STYLEWIRE_ variable from outside."""
    for variable in [name for name in os.environ if name.startswith("STYLEWIRE_")]:
        monkeypatch.delenv(variable)


def test_defaults_are_safe():
    """Without any setting the server listens on this machine only, with the ports that the SDK expects."""
    settings = Settings.load([])

    assert ("127.0.0.1", 8500, "auto", "parity", "cpu") == (
        settings.host,
        settings.port,
        settings.backend,
        settings.precision,
        settings.device,
    )


def test_flag_beats_environment_beats_default(monkeypatch):
    """The order of precedence."""
    monkeypatch.setenv("STYLEWIRE_PORT", "7001")
    monkeypatch.setenv("STYLEWIRE_MAX_BATCH_SIZE", "5")
    settings = Settings.load(["--port", "7002"])

    assert (7002, 5) == (settings.port, settings.max_batch_size)


def test_threads_default_to_the_cores_of_the_process():
    """0 threads means as many as the process may keep busy."""
    assert usable_cores() == Settings.load([]).threads


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prt", "1"], "--prt is no setting; did you mean --port?"),
        (["--max_batch_size", "1"], "did you mean --max-batch-size?"),
        (["--port", "99999"], "--port '99999'"),
        (["--backend", "tflite"], "--backend 'tflite'"),
        (["--device", "gpu"], "--device 'gpu'"),
        (["--max-queue-seconds", "0"], "--max-queue-seconds '0'"),
        (["stray"], "stray"),
        (["--port"], "port"),
    ],
)
def test_wrong_flag_is_named(arguments, message):
    """A wrong flag or value gives one sentence that names it."""
    with pytest.raises(SettingError) as caught:
        Settings.load(arguments)

    assert message in str(caught.value)


def test_unknown_variable_is_refused(monkeypatch):
    """A misspelt variable does not pass silently."""
    monkeypatch.setenv("STYLEWIRE_MAX_BATCHSIZE", "5")

    with pytest.raises(SettingError, match="did you mean STYLEWIRE_MAX_BATCH_SIZE"):
        Settings.load([])


def test_variables_of_kubernetes_services_are_not_settings(monkeypatch):
    """What a Service named stylewire puts into every pod is let through."""
    for variable in ("STYLEWIRE_SERVICE_HOST", "STYLEWIRE_SERVICE_PORT_GRPC", "STYLEWIRE_PORT_8500_TCP_ADDR"):
        monkeypatch.setenv(variable, "10.0.0.1")

    assert 8500 == Settings.load([]).port


def test_help_names_every_setting(capsys):
    """--help shows each flag with its default."""
    with pytest.raises(SystemExit) as caught:
        Settings.load(["--help"])

    text = capsys.readouterr().out
    assert 0 == caught.value.code
    assert [] == [name for name in Settings.model_fields if f"--{name.replace('_', '-')}" not in text]
