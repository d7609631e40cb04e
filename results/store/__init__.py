"""The record: a study's event log, its lock, the Parquet tables made from the log, and copies in an object store.

Imports only `search_spaces`; everything else in `results` reads these files.
"""
