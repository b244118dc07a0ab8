"""The report of evaluations: scores with their intervals, curves, what changed, clean and dirty items, published numbers."""
