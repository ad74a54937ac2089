"""AdminService: where it is reached, what it answers, and the commands that use it."""

import os
import signal
import socket
import stat
from pathlib import Path

import grpc
import pytest
from typer.testing import CliRunner

from stylewire import ModelLoadError, ModelNotFoundError, UnreachableError, pb
from stylewire.cli.main import app
from stylewire.client.admin import AdminClient
from stylewire.server.config.settings import SettingError
from support.folders import damage, put
from support.refusals import failure
from support.scrape import wait_for
from support.servers import RunningServer, ServerProcess, running_server


@pytest.fixture
def folder(tmp_path, faces) -> Path:
    """A folder with versions 1 and 2 of ``faces``."""
    for content, version in ((0, "1"), (1, "2")):
        put(faces[content], tmp_path / "models" / "faces" / version)
    return tmp_path / "models"


@pytest.fixture
def address(tmp_path) -> str:
    """A socket in a folder whose path is short enough for one."""
    return f"unix:{os.path.relpath(tmp_path / 'admin.sock')}"


@pytest.fixture
def server(folder, address):
    with running_server(models=folder, admin_address=address) as server:
        yield server


@pytest.fixture
def run(server, address, monkeypatch):
    """Run a command as an administrator."""
    monkeypatch.setenv("STYLEWIRE_ADMIN_ADDRESS", address)
    monkeypatch.setenv("STYLEWIRE_ADDRESS", server.address)
    return lambda *arguments: CliRunner().invoke(app, ["models", *arguments], catch_exceptions=False)


def versions(server) -> list[str]:
    with server.channel() as channel:
        return [model.version for model in pb.ModelServiceStub(channel).ListModels(pb.ListModelsRequest()).models]


def test_commands_load_unload_and_reload(server, run):
    """The commands say what they did, and the server serves what they said."""
    said = [run("load", "faces@1"), run("unload", "faces@2"), run("reload", "faces"), run("load", "faces")]

    assert [0] * 4 == [done.exit_code for done in said]
    words = [" ".join(done.stdout.split()[:2]) for done in said]
    assert ["loaded faces@1", "unloaded faces@2", "reloaded faces@1", "loaded faces@2"] == words
    assert ["1", "2"] == versions(server)


def test_list_names_versions(run):
    """Without a command the models are listed, with their versions."""
    done = run()

    assert 0 == done.exit_code
    assert "faces@2" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("load", "cats"), "error: no model 'cats': the models folder has none of this name and version"),
        (("load", "faces@../2"), "error: no model 'faces@../2'"),
        (("unload", "faces@1"), "error: no model 'faces@1': nothing of this name and version is loaded"),
        (("reload", "../faces"), "error: no model '../faces'"),
    ],
)
def test_command_that_fails_says_why(run, arguments, expected):
    """An operation that is refused ends with one sentence and exit code 1."""
    done = run(*arguments)

    assert 1 == done.exit_code
    assert expected in done.stderr


@pytest.mark.parametrize("name", ["", "@1", "faces@"])
def test_wrong_reference_never_leaves_the_process(run, name):
    """A model is NAME or NAME@VERSION."""
    assert 2 == run("load", name).exit_code


def test_command_needs_an_address(server, monkeypatch):
    """Nobody administrates a server by accident: there is no default."""
    monkeypatch.delenv("STYLEWIRE_ADMIN_ADDRESS", raising=False)

    assert 2 == CliRunner().invoke(app, ["models", "unload", "faces"]).exit_code


def test_model_that_cannot_be_loaded_is_a_failed_precondition(folder, server, address):
    """The error has a reason of its own, and no path of the machine."""
    damage(folder / "faces" / "1" / "mapping.onnx")
    with AdminClient(address) as client, pytest.raises(ModelLoadError) as caught:
        client.load("faces", "1")

    assert "MODEL_LOAD_FAILED" == caught.value.reason
    assert "mapping.onnx differs from the manifest's SHA-256" in caught.value.message
    assert str(folder.parent) not in caught.value.message
    assert ["2"] == versions(server)


def test_callers_do_not_reach_it(server):
    """On the port of the callers there is no such service, and reflection does not show it."""
    with server.channel() as channel:
        caught = failure(pb.AdminServiceStub(channel).UnloadModel, pb.UnloadModelRequest(name="faces"))

    assert grpc.StatusCode.UNIMPLEMENTED == caught.code()
    assert ["2"] == versions(server)


def test_administrators_reach_nothing_else(server, address):
    """The address of the administrators makes no pictures."""
    with grpc.insecure_channel(address) as channel:
        caught = failure(pb.StyleGanServiceStub(channel).Generate, pb.GenerateRequest())

    assert grpc.StatusCode.UNIMPLEMENTED == caught.code()


def test_it_is_off_by_default(folder):
    """A server that was not told to takes no orders."""
    with running_server(models=folder) as server:
        assert "" == server.app.admin_address
        with server.channel() as channel:
            caught = failure(pb.AdminServiceStub(channel).ReloadModel, pb.ReloadModelRequest(name="faces"))

        assert grpc.StatusCode.UNIMPLEMENTED == caught.code()


def test_it_may_have_a_port(folder):
    """A port of its own works as a socket does."""
    with (
        running_server(models=folder, admin_address="127.0.0.1:0") as server,
        AdminClient(server.app.admin_address) as client,
    ):
        assert "1" == client.load("faces", "1").version


def test_socket_is_for_its_own_user(server, address):
    """Only the user of the server may connect, from the first moment on; the server's mask for other files stays."""
    mode = Path(address.removeprefix("unix:")).stat().st_mode
    mask = os.umask(0)
    os.umask(mask)

    assert stat.S_ISSOCK(mode)
    assert 0 == mode & 0o077
    assert 0o177 != mask


def test_socket_is_removed_at_the_end(folder, address):
    """A server that has stopped leaves no socket behind."""
    with running_server(models=folder, admin_address=address):
        assert Path(address.removeprefix("unix:")).exists()

    assert not Path(address.removeprefix("unix:")).exists()


def test_socket_of_a_server_that_died_is_replaced(folder, address):
    """A socket that nobody listens on is no reason not to start."""
    path = address.removeprefix("unix:")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with running_server(models=folder, admin_address=address), AdminClient(address) as client:
        assert "2" == client.reload("faces").version


def test_socket_of_another_server_is_refused(folder, server, address):
    """A socket that somebody listens on is theirs."""
    with pytest.raises(SettingError, match="another server listens on --admin-address unix:"):
        RunningServer(models=folder, admin_address=address)

    with AdminClient(address) as client:
        assert "2" == client.reload("faces").version


def test_file_in_the_place_of_the_socket_is_refused(folder, address):
    """What is no socket is not removed."""
    path = Path(address.removeprefix("unix:"))
    path.write_text("precious")
    with pytest.raises(SettingError, match="is a file and no socket"):
        RunningServer(models=folder, admin_address=address)

    assert "precious" == path.read_text()


@pytest.mark.parametrize(
    "address",
    ["unix:/nowhere/at/all/admin.sock", "nobody.invalid:1", "127.0.0.1:99999", "8502", "localhost", "0.0.0.0:0"],
)
def test_address_that_cannot_be_had_is_refused(folder, address):
    """An address that cannot be had is named, before any model is loaded."""
    with pytest.raises(SettingError, match=f"cannot listen on --admin-address {address}"):
        RunningServer(models=folder, admin_address=address)


def test_port_of_the_callers_is_refused(folder):
    """Orders do not come where callers are."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SettingError, match="--admin-address"):
        RunningServer(models=folder, port=port, admin_address=f"127.0.0.1:{port}")


def test_several_processes_take_no_orders(folder):
    """An order would reach one process only, so this is refused, with what works instead."""
    with pytest.raises(RuntimeError, match=r"--admin-address does not go with --workers 2.*--watch-seconds"):
        ServerProcess("--workers", "2", "--admin-address", "127.0.0.1:0", models=folder)


def test_server_process_is_administrated(folder, tmp_path):
    """Flag, socket and commands fit together in a process of its own, which ends in peace."""
    address = f"unix:{os.path.relpath(tmp_path / 'a.sock')}"
    server = ServerProcess("--admin-address", address, models=folder)
    try:
        with AdminClient(address) as client:
            client.reload("faces")
            with pytest.raises(ModelNotFoundError):
                client.unload("cats")
        wait_for(server.metrics_url, lambda scrape: not scrape.count("stylewire_model_state", state="retiring"))
        code, log = server.stop(signal.SIGTERM)
    finally:
        server.kill()
    with AdminClient(address, timeout=5) as client, pytest.raises(UnreachableError, match="no server answers at unix:"):
        client.reload("faces")

    assert 0 == code, log
    assert "model faces@2 is closed" in log
    assert "Traceback" not in log
