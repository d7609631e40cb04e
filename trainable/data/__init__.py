"""Making and reading data: the packed folder, importers, labels, synthetic data, checks, batches.

Imports `search_spaces` only; the model and the loop beside it import from here.
"""
