"""Studies whose trials are given, not searched: confirming seeds, the lineage, past and recorded runs.

Imports `study`.
"""
