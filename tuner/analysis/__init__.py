"""What a finished study says: importance, partial dependence, narrower spaces, report, export, plots.

Imports `study`.
"""
