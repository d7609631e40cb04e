"""What a finished study shows: importance, partial dependence, narrower spaces, report, export, plots.

Imports `study`.
"""
