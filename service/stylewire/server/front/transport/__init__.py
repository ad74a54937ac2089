"""gRPC itself: the port, the interceptor, health, the last part of a drain."""
