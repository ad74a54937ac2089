"""Settings: flag over environment over default; what is unknown is refused with the nearest known name."""

import os
import re
from pathlib import Path

import pytest

from stylewire.server.config.settings import SettingError, Settings, table
from stylewire.server.host import usable_cores


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
        (["--no-port"], "--no-port is no setting"),
        (["--tls-key", "key.pem"], "--tls-certificate and --tls-key belong together"),
        (["--tls-client-ca", "ca.pem"], "--tls-client-ca needs --tls-certificate"),
        (["--config", "/nowhere/a.toml"], "--config /nowhere/a.toml: No such file or directory"),
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


@pytest.fixture
def config(tmp_path):
    """Write a configuration file; returns its path."""

    def write(text):
        path = tmp_path / "stylewire.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_file_is_beaten_by_environment_and_flags(monkeypatch, config):
    """Flag over environment over file over default, for each setting by itself."""
    path = config("port = 7001\nmax_latents = 11\nmax_frames = 12\nreflection = false\n")
    monkeypatch.setenv("STYLEWIRE_MAX_LATENTS", "21")
    monkeypatch.setenv("STYLEWIRE_MAX_FRAMES", "22")
    settings = Settings.load(["--config", path, "--max-frames", "32"])

    assert (7001, 21, 32, False) == (
        settings.port,
        settings.max_latents,
        settings.max_frames,
        settings.reflection,
    )


def test_file_may_be_named_by_a_variable(monkeypatch, config):
    """STYLEWIRE_CONFIG is --config."""
    monkeypatch.setenv("STYLEWIRE_CONFIG", config("port = 7001\n"))

    assert 7001 == Settings.load([]).port


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prt = 1", "prt is no setting; did you mean port?"),
        ("[listening]\nport = 1", "listening is no setting"),
        ("port = 99999", "port = 99999: Input should be less than or equal to 65535"),
        ("port", "is not TOML"),
    ],
)
def test_wrong_file_is_named(config, text, message):
    """A wrong key or value of the file gives one sentence that names file and key."""
    path = config(text)
    with pytest.raises(SettingError) as caught:
        Settings.load(["--config", path])

    assert path in str(caught.value)
    assert message in str(caught.value)


def test_wrong_variable_is_named(monkeypatch):
    """A wrong value is told with the name under which it was given."""
    monkeypatch.setenv("STYLEWIRE_MAX_BATCH_SIZE", "many")

    with pytest.raises(SettingError, match=r"STYLEWIRE_MAX_BATCH_SIZE 'many': Input should be a valid integer"):
        Settings.load([])


def printed(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as caught:
        Settings.load([*arguments, "--print-config"])
    assert 0 == caught.value.code
    return capsys.readouterr().out


def test_print_config_tells_where_values_come_from(monkeypatch, capsys, config):
    """Every setting is there, with its value and its origin."""
    path = config("max_frames = 12\n")
    monkeypatch.setenv("STYLEWIRE_MAX_LATENTS", "21")
    lines = printed(capsys, "--config", path, "--no-reflection").splitlines()

    assert f"max_frames = 12  # {path}: max_frames" in lines
    assert "max_latents = 21  # STYLEWIRE_MAX_LATENTS" in lines
    assert "reflection = false  # --reflection" in lines
    assert "port = 8500  # default" in lines
    assert set(Settings.model_fields) == {re.sub("^# ", "", line).split(" = ")[0] for line in lines if " = " in line}


def test_print_config_can_be_read_back(capsys, config):
    """What is printed is a configuration file that gives the same settings."""
    text = printed(capsys, "--port", "7001", "--models", '/a "b"/c', "--no-reflection")

    assert Settings.load(["--port", "7001", "--models", '/a "b"/c', "--no-reflection"]) == Settings.load(
        ["--config", config(text)]
    )


def test_page_has_the_declared_settings():
    """docs/settings.md is what the declarations say (`make docs`)."""
    text = (Path(__file__).parents[3] / "docs" / "settings.md").read_text(encoding="utf-8")

    assert "\n".join(table()).strip() == text.partition("<!-- settings -->")[2].partition("<!-- end")[0].strip()
