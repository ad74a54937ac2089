"""Fakes that stand where a graph, a backend, a future, a metric or a clock would."""

import threading

import numpy as np

TIMEOUT_SECONDS = 30


class FakeGraph:
    """Doubles its rows; records every batch; each run waits at a gate of its own.

    Attributes:
        batches: first values of the rows of each batch that began to run.
        exclusive: whether each of them had the whole device.
        threads: names of the threads that ran them.
        poison: rows of this value make their batch fail.
        most_at_once: how many runs there ever were side by side.
    """

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.exclusive: list[bool] = []
        self.threads: list[str] = []
        self.poison: float | None = None
        self.most_at_once = 0
        self._at_once = 0
        self._gates: list[threading.Event] = []
        self._closed = False
        self._changed = threading.Condition()

    def close_gate(self) -> None:
        """Hold every run that begins from now on."""
        with self._changed:
            self._closed = True

    def open_gate(self) -> None:
        """Let all go on, and hold none any more."""
        with self._changed:
            self._closed = False
            for gate in self._gates:
                gate.set()

    def release(self, index: int) -> None:
        """Let one run go on: the first is 0."""
        self._gates[index].set()

    def wait_for(self, count: int) -> None:
        """Wait until so many runs have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.batches) >= count, TIMEOUT_SECONDS), self.batches

    def __call__(self, inputs, outputs, *, exclusive):
        values, gate = inputs["x"].reshape(len(inputs["x"]), -1)[:, 0].tolist(), threading.Event()
        with self._changed:
            self.batches.append(values)
            self.exclusive.append(exclusive)
            self.threads.append(threading.current_thread().name)
            self._gates.append(gate)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            if not self._closed:
                gate.set()
            self._changed.notify_all()
        try:
            assert gate.wait(TIMEOUT_SECONDS), "the test never opened the gate"
        finally:
            with self._changed:
                self._at_once -= 1
        if self.poison in values:
            raise ArithmeticError("poisoned")
        return {name: inputs["x"] * np.float32(2) for name in outputs}


class FakeBackend:
    """Answers ``x`` times two as every output; records the batches that ran.

    Attributes:
        sizes: rows of the batches that ran in one instance.
        exclusive_sizes: rows of the batches that had the whole device.
        most: rows of the largest batch that it runs; larger ones raise.
        most_exclusive: the same of an exclusive batch.
        kept: what it allocated, ``row_bytes`` for each row of the largest batch so far, as runtimes do.
    """

    name, device, precision, input_names = "fake", "cpu", "fp32", ("x",)

    def __init__(self, *, instances=1, exclusive=False, most=1000, most_exclusive=1000, row_bytes=0) -> None:
        self.instances, self.exclusive, self.most, self.most_exclusive = instances, exclusive, most, most_exclusive
        self.sizes: list[int] = []
        self.exclusive_sizes: list[int] = []
        self.kept = bytearray()
        self._row_bytes = row_bytes

    def run(self, inputs, outputs, *, exclusive=False):
        size = len(inputs["x"])
        (self.exclusive_sizes if exclusive else self.sizes).append(size)
        if size > (self.most_exclusive if exclusive else self.most):
            raise MemoryError(f"{size} rows are too many")
        more = size * self._row_bytes - len(self.kept)
        if more > 0:
            self.kept += b"x" * more  # written to, so that it is resident
        return dict.fromkeys(outputs, inputs["x"] * np.float32(2))

    def close(self) -> None:
        pass


class FakeFuture:
    """Stands where a future would, for rules that ask only whether it is done."""

    def __init__(self) -> None:
        self._done = False

    def done(self) -> bool:
        return self._done

    def finish(self) -> None:
        self._done = True


class FakeObserver:
    """Remembers what a batcher told.

    Attributes:
        batches: rows of the batches.
        dispatches: why they had no more.
        entries: results of the requests that got their rows.
        refusals: reasons of those that got none.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.dispatches: list[object] = []
        self.entries: list[object] = []
        self.refusals: list[str] = []

    def batch(self, size, seconds, dispatch) -> None:
        self.batches.append(size)
        self.dispatches.append(dispatch)

    def request(self, result) -> None:
        self.entries.append(result)

    def refused(self, reason) -> None:
        self.refusals.append(reason)


class FakeCall:
    """A call that is traced; remembers what it was told.

    Attributes:
        phases: of it.
    """

    trace_id, span_id, link = "0" * 32, "0" * 16, "link"

    def __init__(self) -> None:
        self.phases: list[object] = []

    def phase(self, phase) -> None:
        self.phases.append(phase)


class FakeClock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
