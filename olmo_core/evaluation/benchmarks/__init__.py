"""The benchmarks: how the rows of each become items, and where the rows are read from."""
