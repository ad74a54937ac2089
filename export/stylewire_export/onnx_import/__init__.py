"""A ready ONNX file to a model directory, without a checkpoint."""
