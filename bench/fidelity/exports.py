"""Golden checkpoints -> exported models, opened by the backends of the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stylewire.latents import Array
from stylewire.manifest import Manifest
from stylewire.server.backends import OUTPUTS, Arrays, BackendOptions, graph_kind, graph_suffix, open_backend
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
        suffix = graph_suffix(backend)
        graphs = {
            name: open_backend(backend, self.directory / f"{name}{suffix}", options)
            for name in self.manifest.graphs(suffix)
        }

        def run(graph: str, values: Arrays) -> Arrays:
            return graphs[graph].run(values, OUTPUTS[graph_kind(graph)])

        arrays, meta = read_case(self.folder)
        manifest = self.manifest
        yield Case(self.folder.name, self.folder, meta, arrays, manifest.layer_count, manifest.noise_size, run)
        for graph in graphs.values():
            graph.close()


def export_case(job: ExportJob, folder: Path) -> Exported:
    """Export a checkpoint in all formats, as a user does; verification against PyTorch is part of it."""
    report = export_model(job)
    return Exported(report.directory, report.manifest, folder)
