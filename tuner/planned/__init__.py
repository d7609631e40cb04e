"""Studies whose trials are given and not sampled: confirmation with new seeds, the lineage, past and recorded runs.

Imports `study`.
"""
