"""Tables of models for people."""

from collections.abc import Sequence

from rich.table import Table

from stylewire import pb


def models_table(found: Sequence[pb.Model]) -> Table:
    """List models, one a row."""
    table = Table("model", "state", "size", "layers", "calls", "encoders", "latent space", "runs on", box=None)
    for each in found:
        capabilities = [pb.Capability.Name(c).removeprefix("CAPABILITY_").lower() for c in each.capabilities]
        table.add_row(
            f"{_reference(each)} (default)" if each.default_model else _reference(each),
            pb.Model.State.Name(each.state).removeprefix("STATE_").lower(),
            f"{each.resolution_px} px",
            str(each.layer_count),
            ", ".join(capabilities),
            ", ".join(encoder.name for encoder in each.encoders),
            each.latent_space.removeprefix("sha256:")[:12],
            f"{each.backend} {each.device} {each.precision}",
        )
    return table


def runtimes_table(found: Sequence[pb.Model]) -> Table:
    """List the memory of models, what runs their graphs, and what else was tried, the fastest first."""
    table = Table("graph", "backend", "rows/s", "", box=None)
    for each in found:
        table.add_row(_reference(each), "", "", f"{each.resident_bytes / 1e6:.0f} MB")
        for runtime in sorted(each.runtimes, key=lambda runtime: (runtime.graph, -runtime.rows_per_second)):
            table.add_row(
                f"{_reference(each)}.{runtime.graph}",
                f"{runtime.backend} {runtime.precision}",
                f"{runtime.rows_per_second:.3g}" if runtime.rows_per_second else "",
                "runs it" if runtime.chosen else runtime.problem,
            )
    return table


def _reference(model: pb.Model) -> str:
    return f"{model.name}@{model.version}" if model.version else model.name
