"""Where trials run: Ray Tune, its workers, clusters, cards, jobs, and stopping by hand.

Imports `study` and `callbacks`.
"""
