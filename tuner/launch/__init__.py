"""From what was asked to a finished search: checks, settings, what may change on a resume, the run, the closing words.

Imports every room but `commands`.
"""
