"""Who listens to a study's log: the progress display, loggers, notices, copies for Optuna, `tuner watch`.

Imports `study`.
"""
