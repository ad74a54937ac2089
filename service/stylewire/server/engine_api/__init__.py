"""Where the wings meet: what a front may ask of an engine, and the values that both know. No runtime, no gRPC."""
