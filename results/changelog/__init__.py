"""A study's history as text: what changed from trial to trial, its effect, and what a page kept by hand misses.

Imports `results.store` and the plain modules of `results`.
"""
