"""Weights for a decoder from elsewhere: checkpoints and the public reference models.

Imports `search_spaces` and, of `trainable`, the data, the model and the checkpoints; the loop and the scoring import
it.
"""
