"""The searchers: Optuna's samplers, told the truth, and what earlier studies tell them.

Imports nothing of `tuner` outside this folder.
"""
