"""A process of the server's own: what it answers, how its end is noticed, what is not read from it."""

import os
import pickle
import signal
import threading
from fractions import Fraction

import numpy as np
import pytest

from stylewire.server.child_process import ChildError, ChildProcess, read_reply


@pytest.fixture
def echo(tmp_path, monkeypatch):
    """Starts a process that sends back what it gets; ``Ellipsis`` ends it, and one that gets ``None`` never answers."""
    (tmp_path / "echo_process.py").write_text(
        "import sys, time\n"
        "def serve(connection):\n"
        "    while (message := connection.recv()) is not ...:\n"
        "        if message is None: time.sleep(1000)\n"
        "        print('not among the answers')\n"
        "        connection.send(message)\n"
        "    sys.exit(3)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    children = []

    def start(*replies):
        children.append(ChildProcess("echo_process", replies, niceness=0))
        return children[-1]

    yield start
    for child in children:
        child.close()


def ask(child: ChildProcess, message: object, seconds: float = 60) -> object:
    with child.limit(seconds):
        child.send(message)
        return child.receive()


def test_process_answers_with_arrays_and_declared_classes(echo):
    """Numbers, arrays and the classes that were declared come back as they were."""
    child = echo(Fraction)
    array = np.arange(6, dtype=np.float32).reshape(2, 3)

    assert Fraction(1, 3) == ask(child, Fraction(1, 3))
    assert np.array_equal(array, ask(child, array))
    assert child.alive


def test_reply_of_another_class_kills_the_process(echo):
    """A process that sends what it should not is not to be trusted any more."""
    child = echo(str)
    with pytest.raises(ChildError, match=r"was killed: fractions\.Fraction is none of the classes") as caught:
        ask(child, Fraction(1, 3))

    assert not caught.value.timed_out
    assert not child.alive


@pytest.mark.parametrize("hostile", [os.system, np.load])
def test_reply_cannot_name_a_function(hostile):
    """Nothing that could run code is read, of NumPy neither."""
    with pytest.raises(pickle.UnpicklingError, match="none of the classes"):
        read_reply(pickle.dumps(hostile), frozenset())


def test_process_that_takes_too_long_is_killed(echo):
    """Time counts for the answer, and for what the process does not read: a message larger than any buffer."""
    for message in (None, bytes(64 << 20)):
        child = echo()
        if message:
            ask(child, 1)
            os.kill(child.pid, signal.SIGSTOP)
        with pytest.raises(ChildError, match=r"took longer than 0\.5 s") as caught:
            ask(child, message, 0.5)

        assert caught.value.timed_out
        assert not child.alive


def test_end_of_the_process_is_told(echo):
    """Whoever asks learns how the process ended: by itself, or by whom it was killed."""
    child, killed = echo(), echo()
    with pytest.raises(ChildError, match="ended with exit code 3"):
        ask(child, ...)
    threading.Timer(0.2, killed.kill).start()
    with pytest.raises(ChildError, match="ended by signal 9") as caught:
        ask(killed, None)

    assert not caught.value.timed_out


def test_process_ends_with_its_connection_only(echo):
    """A Ctrl-C or a termination of all processes of the server leaves it alive; a closed connection ends it."""
    child = echo()
    ask(child, 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(child.pid, number)

    assert 2 == ask(child, 2)
    child.close(60)

    assert not child.alive
