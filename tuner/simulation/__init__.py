"""Searches in virtual time: over recorded curves (simulate, audit) and over synthetic trials (forecast).

Imports `study`.
"""
