"""Golden checkpoints -> exported models, opened by the backends of the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stylewire.latents import Array
from stylewire.manifest import Manifest
from stylewire.server.engine.backends import OUTPUTS, Backend, BackendOptions, graph_file, graph_suffixes, open_backend
from stylewire.server.engine_api.graphs import Arrays, graph_kind
from stylewire_export.bundle import ExportJob, export_model
from support.golden import Case, read_case


@dataclass(frozen=True, slots=True)
class Exported:
    """A model directory and what the originals say about it."""

    directory: Path
    manifest: Manifest
    folder: Path

    @property
    def mean_w(self) -> Array:
        """float32[D], the center of truncation."""
        mean: Array = np.load(self.directory / "w_mean.npy")
        return mean

    @contextmanager
    def open(self, backend: str, options: BackendOptions) -> Iterator[Case]:
        """Open the graphs with a backend, as the server does."""
        graphs = {
            name: self._open_graph(name, backend, options) for name in self.manifest.graphs(graph_suffixes(backend)[0])
        }

        def run(graph: str, values: Arrays) -> Arrays:
            return graphs[graph].run(values, OUTPUTS[graph_kind(graph)])

        arrays, meta = read_case(self.folder)
        manifest = self.manifest
        yield Case(self.folder.name, self.folder, meta, arrays, manifest.layer_count, manifest.noise_size, run)
        for graph in graphs.values():
            graph.close()

    def _open_graph(self, name: str, backend: str, options: BackendOptions) -> Backend:
        file = graph_file(backend, name, options, self.manifest.files)
        if file is None:  # ncnn has no mapping networks
            backend, file = "onnxruntime", f"{name}.onnx"
        return open_backend(backend, self.directory / file, options)


def export_case(job: ExportJob, folder: Path) -> Exported:
    """Export a checkpoint in the usual formats, as a user does; verification against PyTorch is part of it."""
    report = export_model(job)
    return Exported(report.directory, report.manifest, folder)
