"""The searchers: Optuna's samplers, how trials are reported to them, and warm starts from earlier studies.

Imports nothing of `tuner` outside this folder.
"""
