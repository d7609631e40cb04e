"""From text to checked values: YAML, keys and kinds, constraints, with every problem as one plain line.

Imports `config`, `errors` and `wording`; files, spaces and runs beside it import from here.
"""
