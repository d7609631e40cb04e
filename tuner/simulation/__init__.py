"""Searches in virtual time: over recorded curves (simulate, audit) and over made-up trials (forecast).

Imports `study`.
"""
