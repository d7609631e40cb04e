"""From the options of a search to its end: checks, settings, changes on resume, the run, the summary.

Imports every folder of `tuner` except `commands`.
"""
