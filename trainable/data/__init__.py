"""Making and reading data: the packed folder, importers, labels, synthetic data, checks, batches.

Imports only `search_spaces`; the model and the loop in `trainable` import from here.
"""
