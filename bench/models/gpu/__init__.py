"""How fast each form of a network runs on an NVIDIA GPU, against the roofline: ``bench/gpu/run.sh``."""
