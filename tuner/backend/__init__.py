"""Where trials run: Ray Tune, its workers, clusters, GPUs, jobs, and `tuner stop`.

Imports `study` and `callbacks`.
"""
