"""The Open Inference Protocol, measured from outside."""
