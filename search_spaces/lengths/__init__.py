"""How long runs are: the same run (`scale`) or space (`scaled_space`) made shorter or longer.

Imports the rest of `search_spaces`.
"""
