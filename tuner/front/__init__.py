"""What `import tuner` gives to scripts and notebooks: studies that are there, and searches.

Imports every other room; only `tuner/__init__.py` imports it, when one of its names is first used.
"""
