"""The Python interface, `import tuner`, for scripts and notebooks: existing studies, and searches.

Imports every other folder; only `tuner/__init__.py` imports it, when one of its names is first used.
"""
