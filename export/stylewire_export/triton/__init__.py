"""The parts of a Triton model repository: what graphs take and give, their configuration, files beside them."""
