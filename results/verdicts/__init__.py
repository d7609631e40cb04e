"""Verdicts between trials: what may be compared with what, and whether a difference is more than luck.

Imports `results.store` and the plain modules of `results`.
"""
