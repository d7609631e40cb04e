"""How a run is computed on its device: precision, TF32, which way of computing is fastest there.

Imports `search_spaces` and, of `trainable`, the model; only the loop and the scoring import it.
"""
