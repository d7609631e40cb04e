"""What every room needs: files written whole, where a trial's files are.

Imports the standard library and `search_spaces.errors`; anything may import it.
"""
