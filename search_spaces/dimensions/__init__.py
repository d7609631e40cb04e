"""The dimensions of a space: what one is (`dimension`), and how a space file's are read and checked (`reading`).

A new kind of dimension is one that has a coordinate: everything else (searchers, importance, narrowing, simulation)
asks `Dimension.from_unit` and `Dimension.to_unit`.
"""
