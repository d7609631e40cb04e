"""A study's history in words: what changed from trial to trial, what it did, and what a page kept by hand misses.

Imports `results.store` and the plain modules of `results`.
"""
