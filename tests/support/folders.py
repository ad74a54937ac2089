"""Model folders that change under a server, and what loads from them without one."""

import asyncio
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np

from stylewire.manifest import Manifest, file_info
from stylewire.server.config.settings import Settings
from stylewire.server.engine.models.lifecycle import Lifecycle
from stylewire.server.engine.models.loader import Loader
from stylewire.server.engine.models.model import Model
from stylewire.server.engine.models.operations import Operations
from stylewire.server.engine.models.repository import Repository
from stylewire.server.engine.models.watcher import Watcher
from stylewire.server.telemetry.metrics import Metrics
from support.fakes import FakeClock


def put(content: Path, target: Path) -> Path:
    """Make a directory hold this content, as careful people do: copied aside, then renamed."""
    aside = target.parent / f".new-{target.name}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(content, aside)
    if target.exists():
        remove(target)
    return aside.rename(target)


def remove(target: Path) -> None:
    """Take a directory away at once."""
    shutil.rmtree(target.rename(target.parent / f".old-{target.name}"))


def damage(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def fail_the_self_check(directory: Path) -> None:
    """Change the stored outputs, with a digest that fits: only running the graphs can tell."""
    path = directory / "check.npz"
    with np.load(path) as stored:
        vectors = {name: array[::-1] if ".out." in name else array for name, array in stored.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **vectors)
    path.write_bytes(buffer.getvalue())
    _tell(directory, "check.npz")


def break_the_graph(directory: Path) -> None:
    """Put something else in the place of a graph, with a digest that fits: only opening it can tell."""
    (directory / "synthesis.onnx").write_bytes(b"no graph at all")
    _tell(directory, "synthesis.onnx")


def _tell(directory: Path, name: str) -> None:
    path = directory / "model.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"][name] = file_info(directory / name).model_dump()
    path.write_text(json.dumps(manifest), encoding="utf-8")


BREAKS = {
    "digest": lambda directory: damage(directory / "synthesis.onnx"),
    "missing": lambda directory: (directory / "mapping.onnx").unlink(),
    "half": lambda directory: os.truncate(directory / "synthesis.onnx", 1000),
    "manifest": lambda directory: (directory / "model.json").write_text("{"),
    "graph": break_the_graph,
    "self-check": fail_the_self_check,
}
"""Ways in which a model directory cannot be loaded."""


class ModelsHarness:
    """The models of a folder with all that changes them, on the running event loop; ``async with``.

    Attributes:
        watcher: whose looks are the test's: two of them see a change.
    """

    def __init__(self, folder: Path, make_loader=Loader, **settings) -> None:
        self.clock, self.metrics = FakeClock(), Metrics()
        given = Settings(**({"backend": "onnxruntime", "models": folder, "threads": 1} | settings))
        loader = make_loader(given, self.metrics, None)
        self.lifecycle = Lifecycle(Repository(folder), given, self.metrics, loader, self.clock)
        self.registry, self.plan = self.lifecycle.registry, self.lifecycle.plan
        self.operations, self.watcher = Operations(self.lifecycle), Watcher(self.lifecycle, 1.0)

    async def __aenter__(self):
        await self.lifecycle.start()
        return self

    async def __aexit__(self, *_) -> None:
        await asyncio.wait_for(self.lifecycle.close(), 30)

    async def look(self, count=2) -> None:
        """Look at the folder, as often as a change needs to count."""
        for _ in range(count):
            await self.watcher.scan()

    async def closed(self) -> None:
        """Wait until everything that was retired is closed."""
        async with asyncio.timeout(30):
            while self.registry.retiring:  # noqa: ASYNC110 - it has no event for this
                await asyncio.sleep(0.001)

    @property
    def served(self) -> dict[str, str]:
        """Reference -> digest of what new calls can have."""
        return {model.info.reference: model.info.digest for model in self.registry.catalog.models}

    def model(self, reference: str) -> Model:
        """What is loaded by this name."""
        return self.registry.model(self.registry.catalog.find(reference).info)

    def sample(self, name, **labels) -> float | None:
        """A value that /metrics would show; None if there is none."""
        for family in self.metrics.registry.collect():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None

    def shown(self) -> set[str]:
        """The names of models that any series has as its label."""
        samples = (sample for family in self.metrics.registry.collect() for sample in family.samples)
        return {sample.labels["model"] for sample in samples if "model" in sample.labels}


def in_harness(test, folder: Path, **settings) -> None:
    """Run a coroutine function with a harness."""

    async def run() -> None:
        async with ModelsHarness(folder, **settings) as harness:
            await test(harness)

    asyncio.run(run())


def digest(directory: Path) -> str:
    return Manifest.read(directory).digest()


async def run_mapping(model) -> np.ndarray:
    result = await model.runners["mapping"].submit({"z": np.zeros((1, 16), np.float32)}, ("w",))
    return result.outputs["w"]
