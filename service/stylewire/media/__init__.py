"""Picture and video files: read, written, checked by their headers, marked with their origin. No protobuf, no gRPC."""
