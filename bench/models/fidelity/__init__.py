"""How near the exported models come to the originals, over all golden data: ``make fidelity``."""
