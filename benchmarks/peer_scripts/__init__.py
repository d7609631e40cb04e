"""What a user writes for the same search with each program; `benchmarks/peers.py` runs them and counts their lines."""
