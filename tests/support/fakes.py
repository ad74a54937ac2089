"""Fakes that stand where a graph or a metric would."""

import threading

import numpy as np


class FakeGraph:
    """Doubles its rows; records every batch; waits while its gate is closed.

    Attributes:
        batches: first values of the rows of each batch that began to run.
        started: set when a batch begins to run.
        poison: rows of this value make their batch fail.
    """

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.started = threading.Event()
        self.poison: float | None = None
        self._gate = threading.Event()
        self._gate.set()

    def close_gate(self) -> None:
        self._gate.clear()
        self.started.clear()

    def open_gate(self) -> None:
        self._gate.set()

    def __call__(self, inputs, outputs):
        self.batches.append(inputs["x"].reshape(len(inputs["x"]), -1)[:, 0].tolist())
        self.started.set()
        if not self._gate.wait(30):
            raise TimeoutError("the test never opened the gate")
        if self.poison in self.batches[-1]:
            raise ArithmeticError("poisoned")
        return {name: inputs["x"] * np.float32(2) for name in outputs}


class FakeObserver:
    """Remembers what a batcher told."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.entries: list[object] = []
        self.refusals: list[str] = []
        self.rows = 0

    def batch(self, size, seconds) -> None:
        self.batches.append(size)

    def entry(self, result) -> None:
        self.entries.append(result)

    def refused(self, reason) -> None:
        self.refusals.append(reason)

    def depth(self, rows) -> None:
        self.rows = rows


class FakeClock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
