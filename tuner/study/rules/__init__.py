"""The stopping rules: who is compared where (`rungs`), what a rule sees (`history`), what it decides (`stopping`).

Imports nothing of `tuner` outside this folder.
"""
