"""onnxruntime on CPUs, CUDA and TensorRT."""
