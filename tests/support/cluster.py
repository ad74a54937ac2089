"""Servers as the pods of a Deployment: each has an address of its own, all have one port, and a name leads to them."""

import contextlib
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from stylewire.demo import MODELS
from support.children import free_port
from support.dns import NameServer
from support.load import WALK_FRAMES
from support.scrape import Scrape
from support.servers import ServerProcess

DRAIN_SECONDS = 2.0
"""More than Envoy's interval of health checks."""
_ANSWERED = re.compile(r" method=(Generate|Interpolate) .*code=OK ")
_REFUSED = re.compile(r" method=(?:Generate|Interpolate) .*code=UNAVAILABLE ")
_PICTURES = {"Generate": 1, "Interpolate": WALK_FRAMES}


class Replica:
    """A server of the model ``pixels``.

    Attributes:
        host: its address.
        rows_at_kill: pictures that it had made just before it was killed.
    """

    def __init__(self, host: str, port: int, settings: tuple[str, ...]) -> None:
        self.host, self.rows_at_kill = host, 0
        usual = ["--host", host, "--port", str(port), "--drain-seconds", str(DRAIN_SECONDS)]
        self.server = ServerProcess(*usual, *settings, models=MODELS / "pixels")

    def rows(self) -> int:
        """Pictures that it has made; it has to run."""
        return int(Scrape(self.server.metrics_url).count("stylewire_batch_size_sum", graph="synthesis"))

    def kill(self) -> None:
        """End it by kill -9."""
        self.rows_at_kill = self.rows()
        self.server.process.kill()

    def last_rows(self) -> int:
        """Pictures that it had made for ``Load`` when it ended, by its log, where a killed one lacks lines."""
        return max(self.rows_at_kill, sum(_PICTURES[method] for method in _ANSWERED.findall(self.server.log())))

    def refused(self) -> int:
        """Calls that it has sent away, by its log."""
        return len(_REFUSED.findall(self.server.log()))

    @contextlib.contextmanager
    def throttled(self, running_seconds: float = 0.01, stopped_seconds: float = 0.09) -> Iterator[None]:
        """Let it run for a part of the time only, as a quota of processors does."""
        done = threading.Event()

        def throttle() -> None:
            while not done.wait(running_seconds):
                self.server.process.send_signal(signal.SIGSTOP)
                done.wait(stopped_seconds)
                self.server.process.send_signal(signal.SIGCONT)

        thread = threading.Thread(target=throttle)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class Cluster:
    """Replicas behind a name.

    A replica is in the name from when it serves until it has ended: endpoints that change late are the worst case.

    Args:
        count: of replicas.
        settings: further ones of each, as flags.

    Attributes:
        names: the name server.
        port: of every replica.
        replicas: those that were started and not removed.
        ended: those that were.
    """

    def __init__(self, count: int, *settings: str) -> None:
        self.names = NameServer()
        self.port = free_port("")
        self.replicas: list[Replica] = []
        self.ended: list[Replica] = []
        self._settings = settings
        self._numbers = iter(range(1, 255))
        try:
            self.scale_up(count)
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """What callers give who balance by themselves."""
        return f"dns://127.0.0.1:{self.names.port}/stylewire-headless:{self.port}"

    def scale_up(self, count: int) -> None:
        """Start more, until there are so many."""
        hosts = [f"127.0.1.{next(self._numbers)}" for _ in range(count - len(self.replicas))]
        with ThreadPoolExecutor() as pool:
            for started in pool.map(lambda host: Replica(host, self.port, self._settings), hosts):
                self.replicas.append(started)
        self._tell()

    def roll(self) -> None:
        """Replace each replica: one more is started, then the old one gets SIGTERM and all the time that it wants."""
        for old in list(self.replicas):
            self.scale_up(len(self.replicas) + 1)
            old.server.process.send_signal(signal.SIGTERM)
            assert 0 == old.server.process.wait(60), old.server.log()
            self.remove(old)

    def remove(self, replica: Replica) -> None:
        """Take one that has ended out of the name."""
        self.replicas.remove(replica)
        self.ended.append(replica)
        self._tell()

    def _tell(self) -> None:
        self.names.addresses = tuple(each.host for each in self.replicas)

    def close(self) -> None:
        for each in (*self.replicas, *self.ended):
            each.server.kill()
        self.names.stop()


@contextlib.contextmanager
def running_cluster(count: int, *settings: str) -> Iterator[Cluster]:
    cluster = Cluster(count, *settings)
    try:
        yield cluster
    finally:
        cluster.close()
