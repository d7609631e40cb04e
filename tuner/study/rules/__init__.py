"""The stopping rules: where trials are compared (`rungs`), what a rule sees (`history`), what it decides (`stopping`).

Imports nothing of `tuner` outside this folder.
"""
