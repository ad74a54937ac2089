"""The last step that families without styles share: named tensor records -> PlainCheckpoint."""

from collections.abc import Callable, Mapping

from stylewire_export.checkpoints.config import AnimeConfig, DcganConfig, PlainCheckpoint
from stylewire_export.checkpoints.shapes import COUNTER, Shape
from stylewire_export.checkpoints.tensors import TensorRecord, to_tensors


def build_plain(
    records: Mapping[str, TensorRecord],
    family: str,
    infer: Callable[[Mapping[str, Shape]], DcganConfig | AnimeConfig],
    *,
    file_bytes: int,
    notes: tuple[str, ...] = (),
) -> PlainCheckpoint:
    """Check the tensors against one another, copy them, and describe the network.

    Args:
        records: the file's name -> record; the counters of batch norms are left out.
        family: whose layout it is.
        infer: reads the dimensions from the shapes, and compares all shapes with them.
        file_bytes: size of the file, bounds the copies.
        notes: of the family.

    Raises:
        CheckpointError: a tensor is missing, surplus or of another shape, or holds no finite floats.
    """
    weights = {name: record for name, record in records.items() if not name.endswith(COUNTER)}
    config = infer({name: record.shape for name, record in weights.items()})
    state, more_notes = to_tensors(weights, file_bytes=file_bytes)
    return PlainCheckpoint(family=family, config=config, state=state, notes=(*notes, *more_notes))
