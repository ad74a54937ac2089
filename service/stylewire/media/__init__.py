"""Picture and video files: read, written, checked by their headers, with their provenance. No protobuf, no gRPC."""
