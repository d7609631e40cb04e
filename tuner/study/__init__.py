"""The study as a function of its event log: state, rules, searchers, budgets, faults, checkpoints.

Imports no other room of `tuner`; every other room may import it.
"""
