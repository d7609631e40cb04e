"""The record: a study's event log, its lock, the Parquet tables made from the log, and copies in an object store.

Imports nothing but `search_spaces`; everything else in `results` reads what lies here.
"""
