"""The Open Inference Protocol: graphs as Triton's clients call them."""
