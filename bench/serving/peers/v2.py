"""A request of the Open Inference Protocol ("v2") over gRPC, without its generated code: three peers speak it."""

PATH = "/inference.GRPCInferenceService/ModelInfer"


def infer_request(seed: int, shape: tuple[int, ...] = (1, 1)) -> bytes:
    """Write a ModelInferRequest for the model ``generator`` with one INT64 tensor ``seed``."""
    contents = _field(3, _varint(seed))  # int64_contents
    tensor = _field(1, b"seed") + _field(2, b"INT64") + _field(3, bytes(shape)) + _field(5, contents)
    return _field(1, b"generator") + _field(5, tensor)


def _field(number: int, content: bytes) -> bytes:
    """Write a field of bytes, of packed numbers or of a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
