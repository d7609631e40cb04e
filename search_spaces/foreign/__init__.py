"""Spaces that other programs wrote: W&B sweeps, the sections of Hydra's Optuna sweeper, and Optuna's studies.

`importing.import_space` is the door; each source is a module that turns its file into a `sweep.Sweep`.
"""
