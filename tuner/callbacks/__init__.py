"""Readers of a study's log while it grows: progress display, loggers, notifications, copies for Optuna, `tuner watch`.

Imports `study`.
"""
