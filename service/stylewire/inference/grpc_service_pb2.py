"""The messages of the Open Inference Protocol, in a pool of their own.

tritonclient registers messages of the same names in protobuf's default pool, where a second description of them is an
error; both must live in one process. So ``make protos`` writes the description and the types that mypy sees, and here
the classes are made of it.
"""

from pathlib import Path

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

POOL = descriptor_pool.DescriptorPool()
_files = descriptor_pb2.FileDescriptorSet.FromString(Path(__file__).with_name("grpc_service.binpb").read_bytes())
for _file in _files.file:
    POOL.Add(_file)
DESCRIPTOR = POOL.FindFileByName("inference/grpc_service.proto")
globals().update(
    {name: message_factory.GetMessageClass(each) for name, each in DESCRIPTOR.message_types_by_name.items()}
)
globals().update({name: EnumTypeWrapper(each) for name, each in DESCRIPTOR.enum_types_by_name.items()})
