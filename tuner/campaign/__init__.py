"""A campaign: everything around a search, from the checks to the answer, as steps that can be stopped anywhere.

May import all of `tuner` but the commands.
"""
