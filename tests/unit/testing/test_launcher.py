import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from stylewire.testing.launcher import (
    Announcement,
    ServerProcess,
    ServerProcessError,
    find_announcement,
    with_default_signals,
)

READY = "stylewire: serving on 127.0.0.1:1, metrics on http://127.0.0.1:2/metrics"


@pytest.fixture
def ignored_interrupt():
    """This process ignores SIGINT, as one that a shell has started in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def program(ready=f"print({READY!r}, flush=True)", code=0) -> tuple[str, str]:
    """Build the command of a server that runs no model."""
    script = f"""
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}))
print("about to stop", file=sys.stderr, flush=True)
{ready}
signal.pause()
"""
    return "-c", script


def test_server_process_finds_the_addresses():
    """The constructor returns when the server says where it answers."""
    with ServerProcess(command=program()) as server:
        assert ("127.0.0.1:1", "http://127.0.0.1:2/metrics", 1) == (server.address, server.metrics_url, server.port)
        assert 0 < server.start_seconds


def test_server_process_that_cannot_announce_itself_is_found_by_its_log():
    """A server whose output is closed logs the line."""
    logged = f"print({READY!r}, file=sys.stderr, flush=True)"
    with ServerProcess(command=program(logged), stdout=subprocess.DEVNULL) as server:
        assert "127.0.0.1:1" == server.address


def test_announcement_that_is_half_written_is_not_taken():
    """A part of the line names no address."""
    assert None is find_announcement(READY[:-1])
    assert Announcement("127.0.0.1:1", "http://127.0.0.1:2/metrics") == find_announcement(f"before\n{READY}\n")


@pytest.mark.parametrize("code", [0, 3])
def test_stop_checks_the_exit_code(tmp_path, code):
    """A server that does not end with 0 after SIGTERM is an error."""
    with ServerProcess(command=program(code=code), log_path=tmp_path / "server.log") as server:
        if code == 0:
            assert (0, "about to stop\n") == server.stop(check=True)
        else:
            with pytest.raises(ServerProcessError, match=r"exit code 3 after SIGTERM.*\n  about to stop"):
                server.stop(check=True)

    assert "about to stop\n" == (tmp_path / "server.log").read_text() == server.log()


def test_stop_without_a_check_returns_the_exit_code():
    """What a server ended with is a result, not an error, unless the caller asks for that."""
    with ServerProcess(command=program(code=3)) as server:
        assert (3, "about to stop\n") == server.stop()


def test_server_process_that_ends_before_it_is_ready_is_an_error():
    """The error has the exit code and the end of the log."""
    with pytest.raises(ServerProcessError, match=r"exit code 5 before it was ready; its log ends with\n  about to"):
        ServerProcess(command=program("sys.exit(5)"))


def test_server_process_that_takes_too_long_is_killed():
    """The error tells how long it was waited for, and no process is left."""
    with pytest.raises(ServerProcessError, match=r"not ready in 2 s; its log ends with\n  \d+$") as caught:
        ServerProcess(
            command=("-c", "import os, time; os.write(2, b'%d' % os.getpid()); time.sleep(600)"),
            start_timeout_seconds=2,
        )
    pid = re.search(r"\d+$", str(caught.value))[0]

    assert not Path(f"/proc/{pid}").exists()


def test_wait_does_not_last_forever():
    """A server that does not end is an error with the end of its log."""
    with (
        ServerProcess(command=program()) as server,
        pytest.raises(ServerProcessError, match=r"did not end within 0 s; its log ends with\n  about to stop"),
    ):
        server.wait(0.1)


def test_server_process_does_not_see_the_variables_of_other_servers(monkeypatch):
    """The variables of this process that are settings of a server are for another one."""
    monkeypatch.setenv("STYLEWIRE_PORT", "1")
    shown = "print([name for name in os.environ if name.startswith('STYLEWIRE_')], file=sys.stderr)"
    given = {"STYLEWIRE_HOST": "::1"}
    with ServerProcess(command=program(f"{shown}; print({READY!r}, flush=True)"), environment=given) as server:
        assert "about to stop\n['STYLEWIRE_HOST']\n" == server.stop().log


def test_child_of_a_process_that_ignores_interrupts_has_default_signals(ignored_interrupt):
    """SIGINT ends a program whose starter ignores it; the starter goes on to ignore it."""
    shell = ["sh", "-c", "kill -INT $$; echo survived"]
    ignored = subprocess.run(shell, capture_output=True, text=True, check=False)
    ended = subprocess.run(with_default_signals(shell), capture_output=True, text=True, check=False)

    assert (0, "survived\n") == (ignored.returncode, ignored.stdout)
    assert (-signal.SIGINT, "") == (ended.returncode, ended.stdout)
    assert signal.SIG_IGN is signal.getsignal(signal.SIGINT)


def test_default_signals_are_those_of_a_program_started_from_a_terminal(ignored_interrupt):
    """Of all signals, none is ignored or caught in the child that would not be without the step between."""
    status = ["sh", "-c", "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status"]
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    expected = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    found = subprocess.run(with_default_signals(status), capture_output=True, text=True, check=True).stdout

    assert expected == found


def test_server_process_of_a_process_that_ignores_interrupts_is_interrupted(ignored_interrupt):
    """Ctrl-C reaches a server whose starter runs in the background."""
    with ServerProcess(command=program(f"print({READY!r}, os.getpid(), flush=True)")) as server:
        code, log = server.stop(signal.SIGINT)

    assert -signal.SIGINT == code
    assert "KeyboardInterrupt" in log


def test_nothing_is_put_before_a_command_where_nothing_is_ignored():
    """From a terminal the program is started itself."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert ["a", "b"] == with_default_signals(("a", "b"))
    finally:
        signal.signal(signal.SIGINT, before)


def test_processor_time_and_memory_are_those_of_the_process():
    """What the process takes grows with what it does, and tells it from this one."""
    busy = "x = bytearray(50 << 20)\nwhile time.process_time() < 0.3: pass"
    with ServerProcess(command=program(f"{busy}\nprint({READY!r}, flush=True)")) as server:
        assert 0.25 < server.processor_seconds() < 5
        assert 50 << 20 < server.resident_bytes() < 150 << 20
        assert server.pid != os.getpid()
