"""Models that change under a running server: no call fails, and every picture is of one content."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from stylewire import pb
from stylewire.client.admin import AdminClient
from stylewire.manifest import Manifest
from support.folders import BREAKS, put, remove
from support.scrape import Scrape, wait_for
from support.servers import running_server

ONE = pb.GenerateRequest(model="faces", latents=[pb.Latent(seed=1)])
LOAD = "stylewire_model_loads_total"
WATCH_SECONDS = 0.05


@pytest.fixture
def folder(tmp_path, faces) -> Path:
    """A folder with version 1 of ``faces``."""
    put(faces[0], tmp_path / "faces" / "1")
    return tmp_path


@pytest.fixture
def server(folder):
    """A server that watches its folder and takes orders."""
    settings = {"watch_seconds": WATCH_SECONDS, "admin_address": "127.0.0.1:0"}
    with running_server(models=folder, **settings) as server:
        yield server


@pytest.fixture
def stub(server):
    with server.channel() as channel:
        yield pb.StyleGanServiceStub(channel)


@pytest.fixture
def admin(server):
    with AdminClient(server.app.admin_address) as client:
        yield client


def digest(directory: Path) -> str:
    return Manifest.read(directory).digest()


def loads(count, result="ok"):
    """A condition: so many loads have ended so."""
    return lambda scrape: scrape.count(LOAD, model="faces", result=result) >= count


class Load:
    """Four threads that call without pause while it lasts, and what they got: pictures by digest."""

    def __init__(self, stub) -> None:
        self._stub, self._stopping = stub, threading.Event()
        self.pictures: dict[str, set[bytes]] = {}
        self.count = 0
        self._lock = threading.Lock()

    def __enter__(self):
        self._pool = ThreadPoolExecutor(4)
        self._calls = [self._pool.submit(self._call_on) for _ in range(4)]
        return self

    def __exit__(self, *_) -> None:
        self._stopping.set()
        self._pool.shutdown()
        for call in self._calls:
            call.result()  # raises what any call raised

    def _call_on(self) -> None:
        while not self._stopping.is_set():
            reply = self._stub.Generate(ONE, timeout=60)
            with self._lock:
                self.pictures.setdefault(reply.model_digest, set()).add(reply.images[0].content)
                self.count += 1


def test_no_call_fails_while_versions_come_and_go(server, stub, folder, faces):
    """Under load, new versions appear, are replaced and removed: every call is answered, by one content or the other,
    and one content always gives the same picture.
    """
    with Load(stub) as load:
        for index, (content, version) in enumerate(((1, "2"), (2, "2"), (0, "3"))):
            put(faces[content], folder / "faces" / version)
            wait_for(server.metrics_url, loads(index + 2))
        remove(folder / "faces" / "3")
        wait_for(server.metrics_url, loads(5))
    print(f"{load.count} calls")

    assert {digest(content) for content in faces} == set(load.pictures)
    assert [1, 1, 1] == [len(pictures) for pictures in load.pictures.values()]


def test_no_call_fails_while_a_model_is_reloaded(server, stub, admin, faces):
    """Reload after reload under load: every call is answered with the same picture."""
    with Load(stub) as load:
        for _ in range(5):
            admin.reload("faces")
    scrape = wait_for(server.metrics_url, lambda s: s.count("stylewire_model_state", state="retiring") == 0)

    assert [digest(faces[0])] == list(load.pictures)
    assert 1 == len(load.pictures[digest(faces[0])])
    assert 6 == scrape.count(LOAD, model="faces", result="ok")
    assert load.count == scrape.count("grpc_server_handled_total", grpc_method="Generate", grpc_code="OK")


def test_stream_ends_on_the_version_that_it_began_with(server, stub, folder, faces):
    """A walk whose model is replaced goes on to its end on the old content, which is closed then."""
    keyframes = [pb.Latent(seed=1), pb.Latent(seed=2)]
    tensor = pb.OutputConfig(format=pb.IMAGE_FORMAT_TENSOR)
    walk = pb.InterpolateRequest(model="faces", keyframes=keyframes, frame_count=3000, output_config=tensor)
    stream = stub.Interpolate(walk)
    frames = list(itertools.islice(stream, 2))
    put(faces[1], folder / "faces" / "2")
    wait_for(server.metrics_url, loads(2))
    meanwhile = stub.Generate(ONE).model_digest
    retiring = Scrape(server.metrics_url).count("stylewire_model_state", version="1", state="retiring")
    frames += stream
    wait_for(server.metrics_url, lambda s: s.value("stylewire_model_state", version="1", state="retiring") is None)

    assert 3000 == len(frames)
    assert {digest(faces[0])} == {frame.model_digest for frame in frames}
    assert (digest(faces[1]), 1) == (meanwhile, retiring)


@pytest.mark.parametrize("how", ["digest", "half", "self-check"])
def test_broken_version_takes_nothing_down(server, stub, folder, faces, how):
    """A new version that cannot be loaded is counted, and every call meanwhile is answered by the old one."""
    with Load(stub) as load:
        BREAKS[how](put(faces[1], folder / "faces" / ".2"))
        (folder / "faces" / ".2").rename(folder / "faces" / "2")
        wait_for(server.metrics_url, loads(1, "failed"))

    assert [digest(faces[0])] == list(load.pictures)


def test_versions_are_listed_and_mixed(tmp_path, faces):
    """Two versions at once: listed in order and page by page, asked for by name, and mixed in one request as what they
    are: each latent's code comes from the network that it names.
    """
    for content, version in ((0, "9"), (1, "10")):
        put(faces[content], tmp_path / "faces" / version)
    sources = [pb.Latent(seed=5, model=name) for name in ("faces@9", "faces@10", "faces")]
    with running_server(models=tmp_path, model_versions=2) as server, server.channel() as channel:
        models, stub = pb.ModelServiceStub(channel), pb.StyleGanServiceStub(channel)
        first = models.ListModels(pb.ListModelsRequest(page_size=1))
        second = models.ListModels(pb.ListModelsRequest(page_size=1, page_token=first.next_page_token))
        one = models.GetModel(pb.GetModelRequest(name="faces@9")).model
        default = models.GetModel(pb.GetModelRequest()).model
        refused = stub.Generate.future(pb.GenerateRequest(model="faces", latents=sources)).exception()
        alone = [stub.Generate(pb.GenerateRequest(model=name, latents=[pb.Latent(seed=5)])) for name in ("faces@9", "")]

    assert ["9", "10"] == [page.models[0].version for page in (first, second)]
    assert "" == second.next_page_token
    assert ("faces", "9", digest(faces[0]), False) == (one.name, one.version, one.digest, one.default_model)
    assert ("10", True) == (default.version, default.default_model)
    assert "different latent spaces" in refused.details()
    assert [digest(faces[0]), digest(faces[1])] == [reply.model_digest for reply in alone]


def test_versions_of_one_space_map_each_latent_by_its_own_network(tmp_path, small_models):
    """Latents of two versions in one request are not mapped together."""
    for name, version in (("plain", "1"), ("twin", "2")):
        directory = put(small_models / name, tmp_path / "faces" / version)
        Manifest.read(directory).model_copy(update={"name": "faces"}).write(directory)
    names = ("faces@1", "faces@2")
    with running_server(models=tmp_path, model_versions=2) as server, server.channel() as channel:
        stub = pb.StyleGanServiceStub(channel)

        def codes(*sources):
            latents = [pb.Latent(seed=5, model=name) for name in sources]
            reply = stub.Generate(pb.GenerateRequest(model="faces", latents=latents, return_codes=True))
            return [code.data for code in reply.codes]

        together, apart = codes(*names), [*codes(names[0]), *codes(names[1])]

    assert together == apart
    assert 2 == len(set(together))


def test_unloaded_model_makes_the_server_unready(server, admin, stub):
    """Without any model health says so, and says the opposite when there is one again."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415

    status = health_pb2.HealthCheckResponse
    with server.channel() as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=pb.STYLEGAN_SERVICE))
        heard = [next(watch).status]
        admin.unload("faces")
        heard.append(next(watch).status)
        admin.load("faces")
        heard.append(next(watch).status)
        watch.cancel()

    assert [status.SERVING, status.NOT_SERVING, status.SERVING] == heard
    assert stub.Generate(ONE).images
